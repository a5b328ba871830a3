"""Average precision and recall of detections, as COCO defines them."""

import math
from typing import Any, ClassVar

import numpy as np

from ubertrain.errors import ConfigError
from ubertrain.metrics.found_boxes import BoxMetric, FoundBoxes

_MOST = (1, 10, 100)
"""Detections per image and class that are looked at, best first."""


class BoxAP(BoxMetric):
    """Mean over classes of the area under the precision-recall curve (Lin et al. 2014), read at 101 recalls.

    `AP` averages over IoU thresholds 0.50 to 0.95, `AP50` and `AP75` are those of one threshold; `APsmall`, `APmedium` and
    `APlarge` count objects below 32^2 square pixels, below 96^2, and above. `AR1`, `AR10` and `AR100` are the recall reached
    with so many detections per image and class, averaged over classes and thresholds; `ARsmall` to `ARlarge` with 100. A class
    without any object in the truth is left out of a mean; an image without objects still makes every detection on it false.
    Ignored boxes are COCO's crowds: detections on them count as nothing. At most 100 detections per image and class count.

    Sizes are those of the boxes as they come; COCO takes the areas of masks and of images in their own size, so that figures
    for one size of object compare with each other, not with a leaderboard. Needs the extra `det`.
    """

    primary: ClassVar[str] = "AP50"
    higher_is_better: ClassVar[bool] = True
    names: ClassVar[tuple[str, ...]] = (
        "AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR1", "AR10", "AR100", "ARsmall", "ARmedium", "ARlarge",
    )  # fmt: skip

    def compute(self) -> dict[str, float]:
        """The twelve scores in COCO's order; all nan if there is no object at all, one of a size without any.

        Raises:
            ConfigError: faster-coco-eval is not installed.
        """
        if all(truth.marks.all() for truth in self.truths):
            return dict.fromkeys(self.names, math.nan)
        precision, recall = self._curves()
        parts = [precision[..., 0, -1], precision[:1, ..., 0, -1], precision[5:6, ..., 0, -1]]
        parts += [precision[..., size, -1] for size in (1, 2, 3)]
        parts += [recall[..., 0, most] for most in (0, 1, 2)]
        parts += [recall[..., size, -1] for size in (1, 2, 3)]
        return {name: _mean(part) for name, part in zip(self.names, parts, strict=True)}

    def _curves(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision (IoU thresholds, recalls, classes, sizes, numbers of detections) and recall without its second dimension.

        -1 for classes without objects.
        """
        try:
            from faster_coco_eval import COCO, COCOeval_faster
        except ImportError as error:
            raise ConfigError("average precision needs faster-coco-eval: pip install 'ubertrain[det]'") from error
        truth = COCO(self._dataset())
        evaluator = COCOeval_faster(truth, truth.loadRes(self._results()), "bbox", print_function=lambda *_: None)
        evaluator.params.maxDets = list(_MOST)
        evaluator.evaluate()
        evaluator.accumulate()
        return evaluator.eval["precision"], evaluator.eval["recall"]

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


def _mean(part: np.ndarray) -> float:
    known = part[part > -1]
    return float(known.mean()) if known.size else math.nan


def _entries(images: list[FoundBoxes]) -> list[tuple[dict[str, Any], float]]:
    """Every box of every image in COCO's terms (x y width height), with its mark."""
    return [
        ({"image_id": image, "category_id": int(kind), "bbox": [x0, y0, x1 - x0, y1 - y0]}, mark)
        for image, found in enumerate(images)
        for (x0, y0, x1, y1), kind, mark in zip(found.boxes.tolist(), found.classes, found.marks, strict=True)
    ]
