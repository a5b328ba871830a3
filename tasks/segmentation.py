"""Semantic segmentation: a class for every pixel."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from ubertrain.annotation.class_map import ClassMap
from ubertrain.engine.level import IMAGE, Level
from ubertrain.errors import ConfigError
from ubertrain.metrics.mean_iou import Absent, MeanIoU
from ubertrain.ops.banded import banded_cross_entropy
from ubertrain.ops.grid import OnGrid
from ubertrain.ops.pixels import to_size
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.crf_head import CRF, with_crf
from ubertrain.tasks.fusion import Fusion
from ubertrain.tasks.heads import Choice, recipe_of


@register_task("segmentation")
class Segmentation(Task):
    """A class for every pixel; also body parts, saliency as two classes, and whatever else is a map of ids.

    The loss is the cross-entropy, averaged over the labelled pixels of each image, at the resolution of the labels: scores are
    enlarged a band of rows at a time (`ops.banded`), so logits of all classes at all pixels never exist.

    Args:
        classes: how many classes there are, background included, or their names in the order of their ids.
        head: "fusion", "fcn32", "fcn16", "fcn8", "largefov", "aspp_sum", "aspp", "ubernet" or the import path of a
            `HeadRecipe`; with options of its own, {type: NAME, ...}.
        taps: trunk levels to read; left out: the head's own choice.
        width: features per pixel, of heads that have such a key; left out: the head's own choice, for "fusion" 64. There 0
            scores the levels directly.
        fusion: "concat" or "sum", of the head "fusion".
        crf: what a fully connected CRF makes of the scores, see `CRF`; it reads the tap "image", which is added to the taps.
        absent: what a class counts in mIoU that the truth never shows; see `MeanIoU`.
    """

    annotation = ClassMap

    def __init__(self, *, classes: int | Sequence[str], head: Choice = "fusion", taps: Sequence[str] | None = None,
                 width: int | None = None, fusion: Fusion | None = None, crf: CRF | None = None,
                 absent: Absent = "left_out") -> None:  # fmt: skip
        self.names = tuple(classes) if not isinstance(classes, int) else tuple(str(index) for index in range(classes))
        if not 2 <= len(self.names) <= 255:
            raise ConfigError(f"segmentation needs 2 to 255 classes, background included; given are {len(self.names)}")
        given = {key: value for key, value in (("width", width), ("fusion", fusion)) if value is not None}
        self.recipe, self.crf, self.absent = recipe_of(head, "segmentation", **given), crf, absent
        self.taps = tuple(self.recipe.taps if taps is None else taps)
        if crf is not None:
            self.taps = (*(tap for tap in self.taps if tap != IMAGE), IMAGE)

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, classes, height, width) logits, in training mode on a grid; see `CRFHead` for log marginals."""
        if self.crf is not None:
            return with_crf(self.recipe, self.crf, levels, len(self.names))
        return self.recipe.make(levels, len(self.names))

    def loss(self, prediction: OnGrid | Tensor, target: Tensor) -> Tensor:
        """(rows,) nats: the mean of -log p(id) over labelled pixels, of logits for ids (rows, height, width)."""
        return banded_cross_entropy(prediction, target, ignore=ClassMap.unknown)

    def metric(self) -> MeanIoU:
        """Mean intersection over union."""
        return MeanIoU(self.names, absent=self.absent)

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """The most likely class of every pixel in its colour, with the names of the classes that are there."""
        return ClassMap.draw_named(image, to_size(prediction, image.shape[:2]).argmax(dim=0).cpu(), self.names)
