"""Average precision of detections, as PASCAL VOC defines it."""

import math
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from ubertrain.metrics.found_boxes import BoxMetric
from ubertrain.ops.boxes import iou


class Curve(NamedTuple):
    """Precision and recall (D,) of one class after each detection that counts, best first; `objects` to be found."""

    precision: np.ndarray
    recall: np.ndarray
    objects: int


class VocAP(BoxMetric):
    """Mean over classes of average precision at one IoU (Everingham et al. 2010, section 4.2 and the development kit).

    Detections of a class are taken over all images, best first (of equal scores, the earlier). Each is compared with the true
    box of its class that overlaps it most: below `threshold` it is false; on a `difficult` box (ignored ones) it counts as
    nothing; else it is right, or false if an earlier detection has found that object. Unlike in COCO's protocol a detection
    never moves on to its second-best object. Difficult boxes need not be found.

    `AP` is the area under the curve whose precision never rises with recall (VOC 2010 and later); `AP11` is the mean of the
    highest precision at recalls of at least 0, 0.1, ..., 1 (VOC 2007), compared as floating-point numbers like in the published
    code. Classes without an object that is not difficult are left out. Boxes are continuous: the kit's, which count whole
    pixels from 1 to both ends, have the same overlaps as x0 - 1, y0 - 1, x1, y1.

    Args:
        classes: how many.
        threshold: the least IoU of a right detection.
    """

    primary: ClassVar[str] = "AP"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, classes: int, *, threshold: float = 0.5):
        super().__init__(classes)
        self.threshold = threshold

    def compute(self) -> dict[str, float]:
        """AP and AP11, nan if there is no object at all."""
        curves = [curve for kind in range(self.classes) if (curve := self.curve(kind)).objects]
        if not curves:
            return {"AP": math.nan, "AP11": math.nan}
        return {"AP": float(np.mean([area(curve) for curve in curves])), "AP11": float(np.mean([points11(c) for c in curves]))}

    def by_class(self) -> list[dict[str, float]]:
        """AP and AP11 of every class, nan for classes without objects."""
        curves = [self.curve(kind) for kind in range(self.classes)]
        return [{"AP": area(curve), "AP11": points11(curve)} for curve in curves]

    def curve(self, kind: int) -> Curve:
        """Precision and recall of one class; recall is 0 where there is no object."""
        scores, owners, right, counted = self._matched(kind)
        objects = sum(int(((truth.classes == kind) & (truth.marks == 0)).sum()) for truth in self.truths)
        order = np.argsort(-scores, kind="stable")
        owners, right, counted = owners[order], right[order], counted[order]
        candidates = np.flatnonzero(right)
        hits = np.zeros(len(order), bool)
        hits[candidates[np.unique(owners[candidates], return_index=True)[1]]] = True  # the first on each object
        hits = hits[counted].cumsum()
        return Curve(hits / np.arange(1, len(hits) + 1), hits / max(objects, 1), objects)

    def _matched(self, kind: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """For every detection of a class: score, number of its best object, whether it is on it, whether it counts at all."""
        parts, before = [(np.zeros(0), np.zeros(0, int), np.zeros(0, bool), np.zeros(0, bool))], 0
        for truth, found in zip(self.truths, self.detections, strict=True):
            mine, wanted = found.classes == kind, truth.classes == kind
            if not mine.any():
                continue
            overlap = iou(torch.from_numpy(found.boxes[mine]), torch.from_numpy(truth.boxes[wanted])).numpy()
            overlap = np.pad(overlap, ((0, 0), (0, 1)), constant_values=-1.0)  # an object that nothing overlaps
            best, on = overlap.argmax(axis=1), overlap.max(axis=1) >= self.threshold
            difficult = np.append(truth.marks[wanted] > 0, False)[best]
            parts.append((found.marks[mine], best + before, on & ~difficult, ~(on & difficult)))
            before += overlap.shape[1]
        scores, owners, right, counted = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return scores, owners, right, counted


class Voc07AP(VocAP):
    """As `VocAP`, with the average over 11 recalls as the primary score, as published for VOC 2007."""

    primary: ClassVar[str] = "AP11"


def area(curve: Curve) -> float:
    """The area under the curve, its precision made to never rise with recall; nan without objects."""
    if not curve.objects:
        return math.nan
    recall = np.concatenate([[0.0], curve.recall])
    highest = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float((np.diff(recall) * highest).sum())


def points11(curve: Curve) -> float:
    """The mean of the highest precision at recalls of at least 0, 0.1, ..., 1, 0 where none is reached; nan without objects."""
    if not curve.objects:
        return math.nan
    best = [curve.precision[curve.recall >= point].max(initial=0.0) for point in np.arange(11) * 0.1]
    return float(np.mean(best))
