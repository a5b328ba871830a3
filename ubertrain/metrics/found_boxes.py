"""Detections and true boxes of a data set, image by image: what every average precision is computed from."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics.constants import NoBoxes
from ubertrain.metrics.metric import Metric


class FoundBoxes(NamedTuple):
    """One image's boxes (N, 4) x0 y0 x1 y1, classes (N,) and marks (N,): a detection's score, a true box's ignore flag."""

    boxes: np.ndarray
    classes: np.ndarray
    marks: np.ndarray


class BoxMetric(Metric):
    """Gathers detections and truth; what derives from it says what they score.

    Update with {"boxes" (rows, D, 4), "scores" (rows, D), "classes" (rows, D)} and {"boxes" (rows, M, 4), "classes" (rows, M),
    "ignore" (rows, M)}, x0 y0 x1 y1, class -1 for padding. Other entries are passed over.

    Args:
        classes: how many.
    """

    def __init__(self, classes: int):
        self.classes = classes
        self.truths: list[FoundBoxes] = []
        self.detections: list[FoundBoxes] = []

    def update(self, prediction: Any, target: Any) -> None:
        """Add detections and truth as above.

        Raises:
            DataError: a label or a detection that is no class, a detection that is not finite, or as many images of one as not
                of the other.
        """
        found, truth = _rows(prediction, "scores"), _rows(target, "ignore")
        if len(found) != len(truth):
            raise DataError(
                f"detections of {len(found)} images for the labels of {len(truth)}; expected one row for each image"
            )
        for image, (mine, wanted) in enumerate(zip(found, truth, strict=True)):
            for what, boxes in (("labels", wanted), ("detections", mine)):
                if boxes.classes.size and (highest := int(boxes.classes.max())) >= self.classes:
                    raise DataError(f"class id {highest} in the {what}; the task has {self.classes} classes")
            if not (np.isfinite(mine.boxes).all() and np.isfinite(mine.marks).all()):
                raise DataError(
                    f"image {image} of {len(found)}: a detection's box or score is not finite, so there is nothing to score; "
                    "did training diverge?"
                )
        self.detections += found
        self.truths += truth

    def merge(self, other: Metric) -> None:
        assert type(other) is type(self) and isinstance(other, BoxMetric) and other.classes == self.classes
        self.detections += other.detections
        self.truths += other.truths

    def constant(self) -> NoBoxes:
        return NoBoxes()


def _rows(table: Mapping[str, Tensor], marks: str) -> list[FoundBoxes]:
    """A collated table, image by image, without padding."""
    boxes, classes, values = (table[name].detach().cpu().double().numpy() for name in ("boxes", "classes", marks))
    return [FoundBoxes(boxes[row][real], classes[row][real], values[row][real]) for row, real in enumerate(classes >= 0)]
