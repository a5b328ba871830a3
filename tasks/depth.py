"""Depth from one image: the distance of every pixel along the optical axis."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ubertrain.annotation.depth import Depth as DepthKind
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.metrics.depth_crops import Crop
from ubertrain.metrics.depth_errors import Align, DepthErrors
from ubertrain.ops.pixels import full_precision, to_size, valid_mean
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.depth_losses import gradient_matching, reverse_huber, scale_invariant
from ubertrain.tasks.fusion import Fusion, FusionHead
from ubertrain.tasks.ordinal_depth import OrdinalDepth

Loss = Literal["log_l1", "l1", "scale_invariant", "berhu", "ordinal"]

_LOG_RANGE = 7.0
"""Answers lie between e^-7 (1 mm) and e^7 (1 km) metres, so that an untrained head cannot overflow."""


def metres(scores: Tensor) -> Tensor:
    """Log depth (rows, 1, height, width) as depth (rows, height, width)."""
    return scores[:, 0].clamp(-_LOG_RANGE, _LOG_RANGE).exp()


@register_task("depth")
class Depth(Task):
    """Depth in metres. The head works in log depth and answers its exponential, so every answer is positive.

    Args:
        taps: trunk levels to read.
        width: features per pixel in the head; 0 for UberNet's head, which scores the levels directly.
        fusion: "concat" or "sum".
        loss: of prediction p and truth t. "log_l1" is mean |ln p - ln t|, the relative error to first order, which weighs near
            and far alike; "l1" is mean |p - t| in metres, which is ruled by what is far away; "berhu" is the reverse Huber loss
            of p - t in metres (Laina et al. 2016), which is ruled by what is worst; "scale_invariant" is that of Eigen et al.
            2014; "ordinal" is ordinal regression over `bins` intervals (DORN, Fu et al. 2018), whose answers are their middles.
        start: the depth in metres that a new head answers; close to the middle of the scenes at hand is best.
        invariance: for "scale_invariant", from 0 (mean square of ln p - ln t) to 1 (its variance): the paper's lambda.
        gradient: weight of the multi-scale gradient matching term that is added to the loss (MegaDepth, MiDaS); 0.5 is usual.
            Not with "ordinal", which has no smooth answer to differentiate.
        bins: for "ordinal", how many intervals,
        between: and where the first begins and the last ends, in metres. Everything else is answered as one of these two.
        valid: for the metric, nearest and farthest depth in metres, such as [0.001, 80] for KITTI; see `DepthErrors`.
        crop: for the metric: "garg", "eigen" (KITTI) or "nyu"; see `Crop`.
        align: for the metric: "median" scales each image's answer to the truth; see `Align`.
    """

    annotation = DepthKind

    def __init__(self, *, taps: Sequence[str] = ("res2", "res3", "res4", "res5"), width: int = 64, fusion: Fusion = "concat",
                 loss: Loss = "log_l1", start: float = 2.0, invariance: float = 0.5, gradient: float = 0.0, bins: int = 80,
                 between: tuple[float, float] = (0.5, 20.0), valid: tuple[float, float] = (1e-3, math.inf),
                 crop: Crop = "none", align: Align = "none") -> None:  # fmt: skip
        if not 0 < start < math.exp(_LOG_RANGE):
            raise ConfigError(f"depth: start is a depth in metres between 0 and {math.exp(_LOG_RANGE):.0f}; given is {start}")
        if not 0 <= invariance <= 1:
            raise ConfigError(f"depth: invariance lies between 0 and 1; given is {invariance}")
        if gradient < 0 or (gradient and loss == "ordinal"):
            raise ConfigError(f"depth: gradient is a weight of at least 0, and 0 for loss: ordinal; given is {gradient}")
        self.taps, self.width, self.fusion, self.start = tuple(taps), width, fusion, start
        self.chosen_loss, self.invariance, self.gradient = loss, invariance, gradient
        self.ordinal = OrdinalDepth(bins, *between) if loss == "ordinal" else None
        self.protocol: tuple[tuple[float, float], Crop, Align] = (valid, crop, align)
        self.metric()  # refuses a range that is none

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, height, width) metres.

        In training mode (rows, 1, height, width) log metres, or (rows, bins - 1, height, width) logits of "farther than this".
        """
        if self.ordinal is not None:
            start, answer = self.ordinal.start(self.start), self.ordinal.decode
            return FusionHead(levels, self.ordinal.channels, width=self.width, fusion=self.fusion, start=start, answer=answer)
        start = [math.log(self.start)]
        return FusionHead(levels, 1, width=self.width, fusion=self.fusion, start=start, answer=metres)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(rows,): over pixels with a reading, of the head's output in training mode from metres (rows, height, width).

        A reading of 0 is none, and neither is one that is not finite.
        """
        scores = full_precision(to_size(prediction, target.shape[-2:]))
        valid = (target > 0) & target.isfinite()
        depth = torch.where(valid, target, 1.0)
        if self.ordinal is not None:
            return valid_mean(self.ordinal.surprise(scores, depth), valid)
        apart = scores[:, 0] - depth.log()
        loss = self._fit(scores, apart, depth, valid)
        return loss + self.gradient * gradient_matching(apart, valid) if self.gradient else loss

    def metric(self) -> DepthErrors:
        """Relative and absolute errors."""
        valid, crop, align = self.protocol
        return DepthErrors(valid=valid, crop=crop, align=align)

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """Near is red, far is blue."""
        return DepthKind.draw(image, to_size(prediction, image.shape[:2]).cpu())

    def _fit(self, scores: Tensor, apart: Tensor, depth: Tensor, valid: Tensor) -> Tensor:
        """The chosen loss (rows,), of log depth that is `apart` from that of `depth`."""
        match self.chosen_loss:
            case "scale_invariant":
                return scale_invariant(apart, valid, self.invariance)
            case "berhu":
                return reverse_huber(_learnable_metres(scores) - depth, valid)
            case "l1":
                return valid_mean((_learnable_metres(scores) - depth).abs(), valid)
        return valid_mean(apart.abs(), valid)


def _learnable_metres(scores: Tensor) -> Tensor:
    """`metres`, with a gradient beyond the range too, so that a head which went astray comes back."""
    return metres(scores.detach()) * (1 + (scores - scores.detach())[:, 0])
