"""Scores of detections on disk."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ubertrain.errors import DataError
from ubertrain.metrics.box_ap import BoxAP
from ubertrain.metrics.found_boxes import FoundBoxes
from ubertrain.metrics.voc_ap import VocAP
from ubertrain.scoring.box_detections import read_detections
from ubertrain.scoring.box_rows import Box, Layout, Pixels
from ubertrain.scoring.box_truth import read_truth
from ubertrain.scoring.each import Watch, unwatched
from ubertrain.scoring.pairs import listed
from ubertrain.scoring.score import Score

Protocol = Literal["coco", "voc07", "voc12"]
"""COCO's twelve figures; VOC's average precision at 11 recalls (2007 to 2009), or the area under the curve (2010 on)."""


def score_boxes(
    predictions: Path,
    truth: Path,
    *,
    protocol: Protocol = "coco",
    iou: float = 0.5,
    classes: Sequence[str] | None = None,
    layout: Layout = "xyxy",
    pixels: Pixels | None = None,
    truth_layout: Layout = "xyxy",
    truth_pixels: Pixels | None = None,
    missing: Literal["error", "empty"] = "empty",
    only: Path | None = None,
    watch: Watch = unwatched,
) -> Score:
    """Score detections against true boxes.

    Args:
        predictions: see `read_detections`.
        truth: see `read_truth`.
        protocol: see `Protocol`.
        iou: the least overlap of a right detection, for VOC; COCO has its own ten.
        classes: names in the order of their ids, where the truth does not say.
        layout: of predictions in text files per image.
        pixels: of predictions, see `Pixels`; None: "from_1" in VOC's files per class, else "edges".
        truth_layout: of truth in text files.
        truth_pixels: of the truth; None: "from_1" in VOC's XML, else "edges".
        missing: what an image without any detection is: "empty", as most detectors write it, or an "error".
        only: a file that lists the ids to score, one a line; None: every true image.
        watch: see `each`.

    Raises:
        DataError: names the file and the line.
        ConfigError: COCO's protocol without faster-coco-eval.
    """
    true = read_truth(truth, classes=classes, layout=truth_layout, pixels=truth_pixels)
    found = read_detections(predictions, true, layout=layout, pixels=pixels)
    known = dict.fromkeys(true.images, truth)
    images = listed(only, known, truth) if only is not None else sorted(true.images)
    _expect_common(found, images, predictions, truth, missing)
    watch(0, len(images))
    truths, detections = ([_rows(table.get(name, ())) for name in images] for table in (true.images, found))
    if protocol == "coco":
        areas = [[box.area for box in true.images[name]] for name in images]
        sentence, scores, by_class = _coco(len(true.classes), truths, detections, areas)
    else:
        sentence, scores, by_class = _voc(len(true.classes), truths, detections, protocol, iou)
    watch(len(images), len(images))
    without = sum(name not in found for name in images)
    seen = {box.kind for boxes in found.values() for box in boxes}
    unseen = sum(kind not in seen for kind in {box.kind for name in images for box in true.images[name]})
    return Score(
        protocol=f"{sentence}; images without any detection: {without}, classes without any: {unseen}",
        scores=scores,
        images=len(images),
        skipped={name: "no truth" for name in sorted(found) if name not in true.images},
        classes=dict(zip(true.classes, by_class, strict=True)),
    )


_Scores = tuple[str, dict[str, float], list[dict[str, float]]]
"""What was computed, in words; the scores; those of each class."""


def _coco(classes: int, truths: list[FoundBoxes], detections: list[FoundBoxes], areas: list[list[float]]) -> _Scores:
    metric = _AreaAP(classes, areas)
    metric.truths, metric.detections = truths, detections
    sentence = "COCO's average precision and recall: ten overlaps from 0.5 to 0.95, 101 recalls, 100 detections an image"
    return sentence, metric.compute(), metric.by_class()


def _voc(classes: int, truths: list[FoundBoxes], detections: list[FoundBoxes], protocol: Protocol, iou: float) -> _Scores:
    metric = VocAP(classes, threshold=iou)
    metric.truths, metric.detections = truths, detections
    first, words = ("AP11", "11 recalls (VOC 2007)") if protocol == "voc07" else ("AP", "the whole curve (VOC 2010 on)")
    sentence = f"VOC's average precision over {words}, mean over classes, overlap at least {iou:g}, difficult objects ignored"
    by_class = [{first: scores[first], **scores} for scores in metric.by_class()]
    known = [scores for scores in by_class if not math.isnan(scores[first])]
    means = {name: float(np.mean([scores[name] for scores in known])) if known else math.nan for name in by_class[0]}
    return sentence, means, by_class  # as metric.compute() has it, which would draw every curve once more


class _AreaAP(BoxAP):
    """Sorts objects into sizes by the areas that the truth says, which in COCO's files are those of masks."""

    def __init__(self, classes: int, areas: list[list[float]]) -> None:
        super().__init__(classes)
        self.areas = areas
        self._kept: tuple[np.ndarray, np.ndarray] | None = None

    def by_class(self) -> list[dict[str, float]]:
        """AP, AP50 and AP75 of every class, nan for classes without objects."""
        if all(truth.marks.all() for truth in self.truths):
            return [dict.fromkeys(("AP", "AP50", "AP75"), math.nan)] * self.classes
        precision = self._curves()[0][..., 0, -1]
        precision = np.where(precision > -1, precision, math.nan).mean(axis=1)  # (overlaps, classes)
        return [{"AP": float(column.mean()), "AP50": float(column[0]), "AP75": float(column[5])} for column in precision.T]

    def _curves(self) -> tuple[np.ndarray, np.ndarray]:
        """As of `BoxAP`, computed once."""
        self._kept = self._kept or super()._curves()
        return self._kept

    def _dataset(self) -> dict[str, Any]:
        dataset = super()._dataset()
        for entry, area in zip(dataset["annotations"], chain.from_iterable(self.areas), strict=True):
            entry["area"] = area
        return dataset


def _expect_common(
    found: Mapping[str, object], images: Sequence[str], predictions: Path, truth: Path, missing: Literal["error", "empty"]
) -> None:
    """Raise `DataError` if no detection is of one of the images, or if an image has none and that is an error."""
    absent = [name for name in images if name not in found]
    if found and len(absent) == len(images):
        raise DataError(
            f"{predictions}: none of its images ({min(found)!r}, ...) is among those of {truth} ({images[0]!r}, ...); "
            "detections are told apart by the names of files, without their endings, or by COCO's image_id"
        )
    if absent and missing == "error":
        raise DataError(f"{predictions}: no detections in {absent[0]!r}, nor in {len(absent) - 1} more of {len(images)} images")


def _rows(boxes: Sequence[Box]) -> FoundBoxes:
    return FoundBoxes(
        np.array([box.corners for box in boxes], dtype=np.float64).reshape(-1, 4),
        np.array([box.kind for box in boxes], dtype=np.int64),
        np.array([box.mark for box in boxes], dtype=np.float64),
    )
