"""Semantic boundaries: for each class, the probability that the boundary of one of its objects runs through a pixel."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ubertrain.annotation.semantic_edges import SemanticEdges, coloured
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.metrics.semantic_boundary_f import Leniency, SemanticBoundaryF
from ubertrain.ops.boundary_losses import class_boundary_loss
from ubertrain.ops.pixels import full_precision, to_size
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.fusion import Fusion, FusionHead


def probabilities(scores: Tensor) -> Tensor:
    """Logits as probabilities, each class on its own: a pixel may be on boundaries of several."""
    return scores.sigmoid()


@register_task("semantic_boundaries")
class SemanticBoundaries(Task):
    """Boundaries of objects with their classes, as in SBD (Hariharan et al., ICCV 2011).

    The loss is CASENet's (Yu et al., CVPR 2017), see `class_boundary_loss`; the score is SBD's benchmark.

    Args:
        classes: how many classes there are, or their names in the order of their planes; there is no background.
        taps: trunk levels to read; the finest decides how well lines are placed.
        width: features per pixel in the head; 0 for UberNet's head, which scores the levels directly.
        fusion: "concat" or "sum".
        tolerance: of the metric, as a share of the image diagonal: 0.02 for SBD, 0.0035 for Cityscapes.
        thresholds: of the metric; a third of the benchmark's 99 unless said. `ubertrain score semantic_boundaries` has 99.
        thin: of the metric: whether to thin what a threshold leaves.
        leniency: of the metric, see `Leniency`: "sbd", or "none" as in later work.
    """

    annotation = SemanticEdges

    def __init__(
        self,
        *,
        classes: int | Sequence[str],
        taps: Sequence[str] = ("res2", "res3", "res4", "res5"),
        width: int = 64,
        fusion: Fusion = "concat",
        tolerance: float = 0.02,
        thresholds: int = 33,
        thin: bool = True,
        leniency: Leniency = "sbd",
    ) -> None:
        self.names = tuple(classes) if not isinstance(classes, int) else tuple(str(index) for index in range(classes))
        if not 1 <= len(self.names) <= 254:
            raise ConfigError(f"semantic_boundaries needs 1 to 254 classes; given are {len(self.names)}")
        if not 0 < tolerance < 1 or thresholds < 1:
            raise ConfigError(
                "semantic_boundaries: tolerance is a share of the diagonal above 0 and below 1, and there is at least one "
                f"threshold; given are {tolerance} and {thresholds}"
            )
        self.taps, self.width, self.fusion = tuple(taps), width, fusion
        self.tolerance, self.thresholds, self.thin, self.leniency = tolerance, thresholds, thin, leniency

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, classes, height, width) probabilities; in training mode logits."""
        return FusionHead(levels, len(self.names), width=self.width, fusion=self.fusion, answer=probabilities)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(rows,) nats: logits (rows, classes, height, width) for planes of the same shape, see `SemanticEdges`."""
        logits = full_precision(to_size(prediction, target.shape[-2:]))
        yes = target == SemanticEdges.boundary
        return class_boundary_loss(logits, yes, ~yes & (target != SemanticEdges.unknown))

    def metric(self) -> SemanticBoundaryF:
        """SBD's benchmark at fewer thresholds."""
        return SemanticBoundaryF(
            self.names, tolerance=self.tolerance, thresholds=self.thresholds, thin=self.thin, leniency=self.leniency
        )

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """In the colours of the classes on white."""
        return coloured(torch.as_tensor(to_size(prediction, image.shape[:2])).cpu())
