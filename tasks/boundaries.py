"""Boundary detection: the probability that people would draw a boundary through a pixel."""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.annotation.edges import Edges
from ubertrain.annotation.ramp import ink
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.metrics.boundary_f import BoundaryF
from ubertrain.ops.pixels import full_precision, to_size, valid_mean
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.fusion import Fusion, FusionHead


def probability(scores: Tensor) -> Tensor:
    """Logits (rows, 1, height, width) as probabilities (rows, height, width)."""
    return scores[:, 0].sigmoid()


@register_task("boundaries")
class Boundaries(Task):
    """Boundaries as several people draw them.

    A pixel is a boundary if at least `agreement` of its annotators say so, and none if nobody does; what lies between is left
    out of the loss (Kokkinos 2016; HED's training set asks for three of about five). The loss is the class-balanced
    cross-entropy of HED (Xie and Tu 2015, equation 2), balanced in each image, up to a factor that makes images with few and
    with many boundaries weigh the same: half the mean over boundary pixels and half the mean over others. An image without a
    boundary has the second half only.

    Args:
        taps: trunk levels to read; the finest decides how well lines are placed.
        width: features per pixel in the head; 0 for UberNet's head, which scores the levels directly.
        fusion: "concat" or "sum".
        agreement: the share of a pixel's annotators that makes it a boundary: 0.5 is three of five, near 0 the union of their
            drawings. On BSDS500 with a small head 0.3, two of five, beat 0.5 by 0.005 to 0.007 F in four of four runs; against
            the union it made no clear difference.
        tolerance: of the metric, as a share of the image diagonal.
    """

    annotation = Edges

    def __init__(self, *, taps: Sequence[str] = ("res2", "res3", "res4", "res5"), width: int = 64, fusion: Fusion = "concat",
                 agreement: float = 0.3, tolerance: float = 0.0075) -> None:  # fmt: skip
        if not 0 < agreement <= 1:
            raise ConfigError(f"boundaries: agreement is a share of the annotators, above 0 and up to 1; given is {agreement}")
        self.taps, self.width, self.fusion = tuple(taps), width, fusion
        self.agreement, self.tolerance = agreement, tolerance

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, height, width) probabilities; in training mode (rows, 1, height, width) logits."""
        return FusionHead(levels, 1, width=self.width, fusion=self.fusion, answer=probability)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(rows,) nats: logits (rows, 1, height, width) for drawings (rows, annotators, height, width), 255 = unknown."""
        logits = full_precision(to_size(prediction, target.shape[-2:]))[:, 0]
        yes, no = self._consensus(target)
        missed = valid_mean(F.softplus(-logits), yes)
        invented = valid_mean(F.softplus(logits), no)
        return (missed + invented) / 2

    def metric(self) -> BoundaryF:
        """F-measure with a tolerance in place."""
        return BoundaryF(tolerance=self.tolerance)

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """Dark on white."""
        return ink(to_size(prediction, image.shape[:2]).cpu())

    def _consensus(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Which pixels are boundaries and which are none, both (rows, height, width) bool."""
        voters = (target != Edges.unknown).sum(dim=1)
        votes = (target == 1).sum(dim=1)
        enough = votes >= self.agreement * voters - 1e-4  # whatever rounding makes of 0.6 times 5
        return enough & (votes > 0), (voters > 0) & (votes == 0)
