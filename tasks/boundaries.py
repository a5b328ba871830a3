"""Boundary detection: the probability that people would draw a boundary through a pixel."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ubertrain.annotation.edges import Edges
from ubertrain.annotation.ramp import ink
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.metrics.boundary_f import BoundaryF
from ubertrain.ops.boundary_losses import bag_loss, balanced_loss
from ubertrain.ops.pixels import full_precision, to_size
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.fusion import Fusion, FusionHead
from ubertrain.tasks.side_head import SideHead


def probability(scores: Tensor) -> Tensor:
    """Logits (rows, 1, height, width) as probabilities (rows, height, width)."""
    return scores[:, 0].sigmoid()


@register_task("boundaries")
class Boundaries(Task):
    """Boundaries as several people draw them.

    A pixel is a boundary if at least `agreement` of its annotators say so, and none if nobody does; what lies between is left
    out of the loss (Kokkinos 2016; HED's training set asks for three of about five). The score is the BSDS500 benchmark's.

    Args:
        taps: trunk levels to read; the finest decides how well lines are placed.
        width: features per pixel in the head; 0 for UberNet's head, or with `sides` HED's, which score the levels directly.
        fusion: "concat" or "sum"; has no effect on `sides`.
        agreement: the share of a pixel's annotators that makes it a boundary, or "union" for one annotator whatever their
            number (as in ASTMT); 0.5 is three of five. On BSDS500 with a small head 0.3, two of five, did better than 0.5; the
            union made no clear difference.
        loss: "balanced", the class-balanced cross-entropy of HED, see `balanced_loss`; or "mil", which lets each annotated
            pixel be found up to `radius` off (Kokkinos 2016), see `bag_loss`.
        radius: of the bags of "mil", in pixels of the network's input.
        sides: deep supervision (HED): every level gives an answer of its own, with a loss of its own; the loss is the mean over
            the fused answer and these. Predictions are the fused answer.
        tolerance: of the metric, as a share of the image diagonal: 0.0075 for BSDS500, 0.011 for NYUD.
        thresholds: of the metric; a third of the benchmark's 99 unless said, which takes a third of the time. `ubertrain score
            boundaries` has 99.
    """

    annotation = Edges

    def __init__(
        self,
        *,
        taps: Sequence[str] = ("res2", "res3", "res4", "res5"),
        width: int = 64,
        fusion: Fusion = "concat",
        agreement: float | Literal["union"] = 0.3,
        loss: Literal["balanced", "mil"] = "balanced",
        radius: float = 2.0,
        sides: bool = False,
        tolerance: float = 0.0075,
        thresholds: int = 33,
    ) -> None:
        if agreement != "union" and not 0 < agreement <= 1:
            raise ConfigError(
                f"boundaries: agreement is a share of the annotators, above 0 and up to 1, or 'union'; given is {agreement}"
            )
        if loss not in ("balanced", "mil") or not 0 <= radius <= 32:
            raise ConfigError(
                f"boundaries: loss is 'balanced' or 'mil', its radius from 0 to 32 pixels; given are {loss!r} and {radius}"
            )
        if not 0 < tolerance < 1 or thresholds < 1:
            raise ConfigError(
                "boundaries: tolerance is a share of the diagonal above 0 and below 1, and there is at least one threshold; "
                f"given are {tolerance} and {thresholds}"
            )
        self.taps, self.width, self.fusion, self.sides = tuple(taps), width, fusion, sides
        self.agreement = 0.0 if agreement == "union" else float(agreement)
        self.radius = radius if loss == "mil" else 0.0
        self.tolerance, self.thresholds = tolerance, thresholds

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, height, width) probabilities; in training mode (rows, maps, height, width) logits."""
        if self.sides:
            return SideHead(levels, width=self.width, answer=probability)
        return FusionHead(levels, 1, width=self.width, fusion=self.fusion, answer=probability)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(rows,) nats: logits (rows, maps, height, width) for drawings (rows, annotators, height, width), 255 = unknown."""
        logits = full_precision(to_size(prediction, target.shape[-2:]))
        known = (target != Edges.unknown).any(dim=1)
        yes, no = self._consensus(target)
        losses = [self._of_map(scores, known, yes, no) for scores in logits.unbind(dim=1)]
        return torch.stack(losses).mean(dim=0)

    def metric(self) -> BoundaryF:
        """The BSDS500 benchmark at fewer thresholds."""
        return BoundaryF(tolerance=self.tolerance, thresholds=self.thresholds)

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """Dark on white."""
        return ink(to_size(prediction, image.shape[:2]).cpu())

    def _of_map(self, scores: Tensor, known: Tensor, yes: Tensor, no: Tensor) -> Tensor:
        """The loss of one map of logits (rows, height, width)."""
        if not self.radius:
            return balanced_loss(scores, yes, no)
        # What nobody labelled is in no bag: the least number loses to every other, and its gradient goes nowhere.
        return bag_loss(torch.where(known, scores, torch.finfo(scores.dtype).min), yes, no, self.radius)

    def _consensus(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Which pixels are boundaries and which are none, both (rows, height, width) bool."""
        voters = (target != Edges.unknown).sum(dim=1)
        votes = (target == 1).sum(dim=1)
        enough = votes >= self.agreement * voters - 1e-4  # whatever rounding makes of 0.6 times 5
        return enough & (votes > 0), (voters > 0) & (votes == 0)
