"""Depth without depth labels: from pairs of views, each of which must be the other one, shifted."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from ubertrain.annotation.stereo import Stereo, draw_disparity
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.metrics.stereo_errors import DisparityErrors, StereoErrors
from ubertrain.ops.pixels import to_size
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.stereo_head import StereoHead
from ubertrain.tasks.stereo_losses import Weights, pair_loss, pyramid


@register_task("stereo_depth")
class StereoDepth(Task):
    """Disparity from one image, learnt from rectified pairs (Godard, Mac Aodha and Brostow 2017, "monodepth").

    From the image alone the head answers the disparity of the image and that of the other view, at four scales. Each view is
    made of the other by its disparity, and must look like itself (structural similarity and absolute difference); disparities
    must be smooth but at edges, and agree with each other. What is answered is the image's own disparity, d = `limit` *
    sigmoid, as a share of its width; depth is baseline times focal length over d.

    Unlike the original, the head says twice what the other view's disparity is: if that view is to the right, and if it is to
    the left. A flip of the image in training changes the side (see `Stereo`), and the image is all that the head sees.

    Args:
        taps: trunk levels to read; strides must be powers of two.
        width: features per pixel in the head, fewer at strides below 4.
        limit: the largest disparity, a share of the width: nothing is nearer.
        start: the disparity that a new head answers.
        similarity: the share of structural similarity in the appearance term: the paper's alpha.
        smoothness: weight of the edge-aware smoothness, halved at each coarser scale.
        consistency: weight of the agreement between both disparities.
        scale: depth in metres times disparity, which is baseline in metres times focal length in image widths; where it is
            given, predictions hold "depth", too.
        judge: what the task's score is: "photometric", the difference between the image and itself made of the other view; or
            "AbsRel" of true disparities, for data sets that have them.
    """

    annotation = Stereo

    def __init__(self, *, taps: Sequence[str] = ("res2", "res3", "res4", "res5"), width: int = 64, limit: float = 0.3,
                 start: float = 0.05, similarity: float = 0.85, smoothness: float = 0.1, consistency: float = 1.0,
                 scale: float | None = None, judge: Literal["photometric", "AbsRel"] = "photometric") -> None:  # fmt: skip
        if width < 1 or not 0 < start < limit <= 1:
            raise ConfigError(f"stereo_depth: 0 < start < limit <= 1, in widths; given are start {start} and limit {limit}")
        if not 0 <= similarity <= 1 or min(smoothness, consistency) < 0 or (scale is not None and scale <= 0):
            raise ConfigError("stereo_depth: similarity lies between 0 and 1; weights are not negative, and scale is above 0")
        self.taps, self.width, self.limit, self.start, self.scale = tuple(taps), width, limit, start, scale
        self.weights, self.judge = Weights(similarity, smoothness, consistency), judge

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> {"disparity": (rows, height, width)} and, with a `scale`, "depth"; see `StereoHead` for training mode."""
        return StereoHead(levels, width=self.width, limit=self.limit, start=self.start, scale=self.scale)

    def loss(self, prediction: Sequence[Tensor], target: Mapping[str, Tensor]) -> Tensor:
        """(rows,): appearance, smoothness and consistency over four scales, of the pixels that are no padding."""
        views = pyramid(target, len(prediction), prediction[0].dtype)
        disparities = []
        for answer, view in zip(prediction, views, strict=True):
            own, right, left = to_size(answer, view.valid.shape[-2:]).unbind(dim=1)
            disparities.append((own, right.where(view.side > 0, left)))
        return pair_loss(disparities, views, self.weights)

    def metric(self) -> StereoErrors:
        """How well the views explain each other, and how far disparities are off where the true ones are known."""
        return DisparityErrors() if self.judge == "AbsRel" else StereoErrors()

    def draw(self, image: np.ndarray, prediction: Any) -> np.ndarray:
        """Near is red, far is blue."""
        return draw_disparity(to_size(prediction["disparity"], image.shape[:2]).cpu().numpy())
