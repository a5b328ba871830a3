"""Average precision of detections, as COCO defines it."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from ubertrain.errors import ConfigError, DataError
from ubertrain.metrics.constants import NoBoxes
from ubertrain.metrics.metric import Metric


class _Found(NamedTuple):
    """One image's boxes (N, 4) x0 y0 x1 y1, classes (N,) and marks (N,): a detection's score, a true box's ignore flag."""

    boxes: np.ndarray
    classes: np.ndarray
    marks: np.ndarray


def _rows(table: Mapping[str, Tensor], marks: str) -> list[_Found]:
    """A collated table, image by image, without padding."""
    boxes, classes, values = (table[name].detach().cpu().double().numpy() for name in ("boxes", "classes", marks))
    return [_Found(boxes[row][real], classes[row][real], values[row][real]) for row, real in enumerate(classes >= 0)]


class BoxAP(Metric):
    """Mean over classes of the area under the precision-recall curve (Lin et al. 2014), read at 101 recalls.

    `AP` averages over IoU thresholds 0.50 to 0.95, `AP50` and `AP75` are those of one threshold. A class without any object in
    the truth is left out of the mean; an image without objects still makes every detection on it false. Ignored boxes are
    COCO's crowds: detections on them count as nothing. Needs the extra `det`.

    Update with {"boxes" (rows, D, 4), "scores" (rows, D), "classes" (rows, D)} and {"boxes" (rows, M, 4), "classes" (rows, M),
    "ignore" (rows, M)}, x0 y0 x1 y1, class -1 for padding.
    """

    primary: ClassVar[str] = "AP50"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, classes: int):
        self.classes = classes
        self.truths: list[_Found] = []
        self.detections: list[_Found] = []

    def update(self, prediction: Any, target: Any) -> None:
        """Add detections and truth as above.

        Raises:
            DataError: a label that is no class.
        """
        if (highest := int(target["classes"].max())) >= self.classes:
            raise DataError(f"class id {highest} in the labels; the task has {self.classes} classes")
        self.detections += _rows(prediction, "scores")
        self.truths += _rows(target, "ignore")

    def merge(self, other: Metric) -> None:
        assert isinstance(other, BoxAP) and other.classes == self.classes
        self.detections += other.detections
        self.truths += other.truths

    def compute(self) -> dict[str, float]:
        """AP, AP50 and AP75, all nan if there is no object at all.

        Raises:
            ConfigError: faster-coco-eval is not installed.
        """
        if all(truth.marks.all() for truth in self.truths):
            return dict.fromkeys(("AP", "AP50", "AP75"), math.nan)
        precision = self._precision()
        scores = {"AP": precision, "AP50": precision[:1], "AP75": precision[5:6]}
        return {name: float(part[part > -1].mean()) for name, part in scores.items()}

    def constant(self) -> NoBoxes:
        return NoBoxes()

    def _precision(self) -> np.ndarray:
        """Precision (IoU thresholds, recalls, classes) over all sizes of objects; -1 for classes without objects."""
        try:
            from faster_coco_eval import COCO, COCOeval_faster
        except ImportError as error:
            raise ConfigError("average precision needs faster-coco-eval: pip install 'ubertrain[det]'") from error
        truth = COCO(self._dataset())
        evaluator = COCOeval_faster(truth, truth.loadRes(self._results()), "bbox", print_function=lambda *_: None)
        most = max(len(found.marks) for found in self.detections)
        evaluator.params.maxDets = [1, 10, max(100, most)]
        evaluator.evaluate()
        evaluator.accumulate()
        precision: np.ndarray = evaluator.eval["precision"]
        return precision[:, :, :, 0, -1]

    def _dataset(self) -> dict[str, Any]:
        """The truth in COCO's terms."""
        entries = [
            {**entry, "id": index, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": int(ignore)}
            for index, (entry, ignore) in enumerate(_entries(self.truths), start=1)
        ]
        return {
            "images": [{"id": image} for image in range(len(self.truths))],
            "categories": [{"id": index, "name": str(index)} for index in range(self.classes)],
            "annotations": entries,
        }

    def _results(self) -> list[dict[str, Any]]:
        return [{**entry, "score": float(score)} for entry, score in _entries(self.detections)]


def _entries(images: list[_Found]) -> list[tuple[dict[str, Any], float]]:
    """Every box of every image in COCO's terms (x y width height), with its mark."""
    return [
        ({"image_id": image, "category_id": int(kind), "bbox": [x0, y0, x1 - x0, y1 - y0]}, mark)
        for image, found in enumerate(images)
        for (x0, y0, x1, y1), kind, mark in zip(found.boxes.tolist(), found.classes, found.marks, strict=True)
    ]
