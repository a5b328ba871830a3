from pathlib import Path

import numpy as np
import pytest

from tests.metrics.box_scenes import FAR, IN_CROWD, NEAR_A, A, B, Table, fill, fill_with_voc, found, scored, truth
from ubertrain.metrics.voc_ap import Voc07AP, VocAP


@pytest.mark.parametrize(
    ("predictions", "targets", "area", "points"),
    [
        ([found((A, 0, 0.9))], [truth((A, 0, False))], 1.0, 1.0),
        ([found((NEAR_A, 0, 0.9))], [truth((A, 0, False))], 1.0, 1.0),
        ([found((A, 1, 0.9))], [truth((A, 0, False))], 0.0, 0.0),
        ([found((FAR, 0, 0.9), (A, 0, 0.8))], [truth((A, 0, False))], 0.5, 0.5),
        ([found((A, 0, 0.9))], [truth((A, 0, False), (B, 0, False))], 0.5, 6 / 11),  # recall 0.5 reaches 6 of 11 points
        # found twice: right, false, right; precision 1, then 2/3 from recall 0.6 on
        ([found((A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7))], [truth((A, 0, False), (B, 0, False))], 0.5 + 1 / 3, (6 + 10 / 3) / 11),
        ([found((FAR, 0, 0.9)), found((A, 0, 0.8))], [truth(), truth((A, 0, False))], 0.5, 0.5),  # false on an empty image
        ([found((B, 0, 0.9), (B, 0, 0.8), (A, 0, 0.7))], [truth((A, 0, False), (B, 0, True))], 1.0, 1.0),  # difficult: nothing
        ([found((IN_CROWD, 0, 0.9), (A, 0, 0.8))], [truth((A, 0, False), (B, 0, True))], 0.5, 0.5),  # within one: false here
        ([found((A, 0, 0.9))], [truth((A, 0, False), (B, 0, True))], 1.0, 1.0),  # a missed difficult one is not missed
        ([found((A, 0, 0.9))], [truth((A, 0, False), (B, 1, False))], 0.5, 0.5),  # mean over two classes
        ([found((A, 0, 0.9), (FAR, 2, 0.9))], [truth((A, 0, False))], 1.0, 1.0),  # class 2 has no object
    ],
)
def test_average_precision_by_hand(predictions: list[Table], targets: list[Table], area: float, points: float) -> None:
    """Both averages of scenes small enough to draw the curve with a pencil."""
    assert scored(VocAP(3), *zip(predictions, targets, strict=True)) == pytest.approx({"AP": area, "AP11": points})


def test_a_detection_does_not_move_on_to_its_second_best_object() -> None:
    """Two detections that both overlap the same object most: the second is false, though another object is free."""
    near = (0.0, 4.0, 10.0, 14.0)  # IoU 0.67 with `low`, 0.54 with `high`
    low, high = (0.0, 6.0, 10.0, 16.0), (0.0, 1.0, 10.0, 11.0)
    target = truth((low, 0, False), (high, 0, False))
    assert scored(VocAP(1), (found((low, 0, 0.9), (near, 0, 0.8)), target))["AP"] == 0.5


def slow(metric: VocAP, kind: int) -> dict[str, float]:
    """The development kit's procedure, detection by detection, in its own coordinates of whole pixels from 1 on."""
    truths = [[box + np.array([1, 1, 0, 0]) for box in image.boxes[image.classes == kind]] for image in metric.truths]
    difficult = [(image.marks[image.classes == kind] > 0).tolist() for image in metric.truths]
    taken = [[False] * len(image) for image in truths]
    listed = [
        (-score, number, box + np.array([1, 1, 0, 0]))
        for number, image in enumerate(metric.detections)
        for box, score in zip(image.boxes[image.classes == kind], image.marks[image.classes == kind], strict=True)
    ]
    marks = []
    for _, number, box in sorted(listed, key=lambda row: row[0]):
        best, where = -np.inf, -1
        for j, other in enumerate(truths[number]):
            width = min(box[2], other[2]) - max(box[0], other[0]) + 1
            height = min(box[3], other[3]) - max(box[1], other[1]) + 1
            if width > 0 and height > 0:
                sides = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other)]
                overlap = width * height / (sum(sides) - width * height)
                if overlap > best:
                    best, where = overlap, j
        if best < metric.threshold:
            marks.append(0)
        elif not difficult[number][where]:
            marks.append(0 if taken[number][where] else 1)
            taken[number][where] = True
    objects = sum(not flag for flags in difficult for flag in flags)
    right, curve = 0, [(0.0, 1.0)]
    for rank, mark in enumerate(marks, start=1):
        right += mark
        curve.append((right / objects, right / rank))
    area, recalls = 0.0, [0.0, *(recall for recall, _ in curve[1:])]
    for i in range(1, len(recalls)):
        area += (recalls[i] - recalls[i - 1]) * max(precision for _, precision in curve[i:])
    points = sum(max((p for r, p in curve[1:] if r >= 0.1 * i), default=0.0) for i in range(11)) / 11
    return {"AP": area, "AP11": points}


def test_random_scenes_match_the_development_kits_procedure() -> None:
    """Both averages of every class equal the definition written out with loops, difficult objects included."""
    metric = VocAP(3)
    fill(metric)
    for kind, scores in enumerate(metric.by_class()):
        assert 0.1 < scores["AP"] < 0.9
        assert scores == pytest.approx(slow(metric, kind), abs=1e-9)


def test_published_detections_match_the_development_kits_procedure(data_root: Path) -> None:
    """On real VOC images with a published detector's boxes, every class and the means equal the definition."""
    metric = VocAP(20)
    fill_with_voc(metric, data_root)
    found = metric.by_class()
    present = [kind for kind in range(20) if not np.isnan(found[kind]["AP"])]
    expected = [slow(metric, kind) for kind in present]
    for kind, scores in zip(present, expected, strict=True):
        assert found[kind] == pytest.approx(scores, abs=1e-9)
    for name, value in metric.compute().items():
        assert value == pytest.approx(np.mean([scores[name] for scores in expected]), abs=1e-9)
        assert value > 0.5


def test_the_older_protocol_has_the_older_primary_score() -> None:
    """VOC 2007 is told by its 11 points; the numbers are the same."""
    older, newer = Voc07AP(3), VocAP(3)
    fill(older), fill(newer)
    assert (older.primary, newer.primary) == ("AP11", "AP") and older.compute() == newer.compute()
