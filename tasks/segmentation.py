"""Semantic segmentation: a class for every pixel."""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.annotation.class_map import ClassMap
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.metrics.mean_iou import MeanIoU
from ubertrain.ops.pixels import full_precision, to_size, valid_mean
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.fusion import Fusion, FusionHead


@register_task("segmentation")
class Segmentation(Task):
    """A class for every pixel; also body parts, saliency as two classes, and whatever else is a map of ids.

    The loss is the cross-entropy, averaged over the labelled pixels of each image.

    Args:
        classes: how many classes there are, background included, or their names in the order of their ids.
        taps: trunk levels to read.
        width: features per pixel in the head; 0 for UberNet's head, which scores the levels directly.
        fusion: "concat" or "sum".
    """

    annotation = ClassMap

    def __init__(self, *, classes: int | Sequence[str], taps: Sequence[str] = ("res2", "res3", "res4", "res5"),
                 width: int = 64, fusion: Fusion = "concat") -> None:  # fmt: skip
        self.names = tuple(classes) if not isinstance(classes, int) else tuple(str(index) for index in range(classes))
        if not 2 <= len(self.names) <= 255:
            raise ConfigError(f"segmentation needs 2 to 255 classes, background included; given are {len(self.names)}")
        self.taps, self.width, self.fusion = tuple(taps), width, fusion

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, classes, height, width) logits."""
        return FusionHead(levels, len(self.names), width=self.width, fusion=self.fusion)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(rows,) nats: the mean of -log p(id) over labelled pixels, of logits for ids (rows, height, width)."""
        logits = full_precision(to_size(prediction, target.shape[-2:]))
        surprise = F.cross_entropy(logits, target, ignore_index=ClassMap.unknown, reduction="none")
        return valid_mean(surprise, target != ClassMap.unknown)

    def metric(self) -> MeanIoU:
        """Mean intersection over union."""
        return MeanIoU(self.names)

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """The most likely class of every pixel in its colour."""
        return ClassMap.draw(image, to_size(prediction, image.shape[:2]).argmax(dim=0).cpu())
