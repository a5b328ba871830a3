"""Saliency: how likely each pixel belongs to what catches the eye."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.annotation.saliency import Saliency as SaliencyKind
from ubertrain.annotation.saliency import spotlight
from ubertrain.engine.level import Level
from ubertrain.metrics.saliency import SaliencyF
from ubertrain.ops.pixels import full_precision, to_size, valid_mean
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.fusion import Fusion, FusionHead


def probability(scores: Tensor) -> Tensor:
    """Logits (rows, 1, height, width) as probabilities (rows, height, width)."""
    return scores[:, 0].sigmoid()


@register_task("saliency")
class Saliency(Task):
    """Salient objects, as the probability that a pixel belongs to one.

    Args:
        taps: trunk levels to read.
        width: features per pixel in the head; 0 for UberNet's head, which scores the levels directly.
        fusion: "concat" or "sum".
        loss: "balanced" is the class-balanced cross-entropy of HED, which ASTMT (Maninis et al. 2019) uses for saliency,
            balanced in each image, up to a factor that makes images with small and with large objects weigh the same: half the
            mean over salient pixels and half the mean over others. "plain" is the mean over all. An image without a salient
            pixel has the mean over others alone, halved if balanced.
    """

    annotation = SaliencyKind

    def __init__(self, *, taps: Sequence[str] = ("res2", "res3", "res4", "res5"), width: int = 64, fusion: Fusion = "concat",
                 loss: Literal["balanced", "plain"] = "balanced") -> None:  # fmt: skip
        self.taps, self.width, self.fusion, self.balanced = tuple(taps), width, fusion, loss == "balanced"

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, height, width) probabilities; in training mode (rows, 1, height, width) logits."""
        return FusionHead(levels, 1, width=self.width, fusion=self.fusion, answer=probability)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(rows,) nats: logits (rows, 1, height, width) for masks (rows, height, width), 255 = unknown."""
        logits = full_precision(to_size(prediction, target.shape[-2:]))[:, 0]
        missed, invented = F.softplus(-logits), F.softplus(logits)
        yes, no = target == SaliencyKind.salient, target == 0
        if self.balanced:
            return (valid_mean(missed, yes) + valid_mean(invented, no)) / 2
        return valid_mean(missed.where(yes, invented), yes | no)

    def metric(self) -> SaliencyF:
        """F-measures, absolute error and structure measure."""
        return SaliencyF()

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """The image, each pixel as bright as it is salient."""
        return spotlight(image, to_size(prediction, image.shape[:2]).cpu())
