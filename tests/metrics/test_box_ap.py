import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tests.metrics.box_scenes import FAR, IN_CROWD, NEAR_A, A, B, Table, fill, fill_with_voc, found, scored, truth
from ubertrain.errors import ConfigError
from ubertrain.metrics.box_ap import BoxAP
from ubertrain.ops.boxes import coverage, iou


@pytest.mark.parametrize(
    ("predictions", "targets", "expected"),
    [
        ([found((A, 0, 0.9))], [truth((A, 0, False))], 1.0),
        ([found((NEAR_A, 0, 0.9))], [truth((A, 0, False))], 1.0),
        ([found()], [truth((A, 0, False))], 0.0),
        ([found((A, 1, 0.9))], [truth((A, 0, False))], 0.0),  # the wrong class
        ([found((FAR, 0, 0.9), (A, 0, 0.8))], [truth((A, 0, False))], 0.5),  # a false one first: precision 1/2 at every recall
        ([found((A, 0, 0.9), (FAR, 0, 0.8))], [truth((A, 0, False))], 1.0),  # a false one after the last true one is free
        ([found((A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7))], [truth((A, 0, False), (B, 0, False))], (51 + 50 * 2 / 3) / 101),
        ([found((A, 0, 0.9))], [truth((A, 0, False), (B, 0, False))], 51 / 101),  # recall up to 0.5: 51 of 101 points
        ([found((FAR, 0, 0.9)), found((A, 0, 0.8))], [truth(), truth((A, 0, False))], 0.5),  # false on an empty image
        ([found((A, 0, 0.9))], [truth((A, 0, False), (B, 1, False))], 0.5),  # mean over two classes
        ([found((A, 0, 0.9), (FAR, 2, 0.9))], [truth((A, 0, False))], 1.0),  # class 2 has no truth
        ([found((IN_CROWD, 0, 0.9), (B, 0, 0.8), (A, 0, 0.7))], [truth((A, 0, False), (B, 0, True))], 1.0),  # on a crowd
        ([found((A, 0, 0.9))], [truth((A, 0, False), (B, 0, True))], 1.0),  # a missed crowd is not missed
    ],
)
def test_average_precision_by_hand(predictions: list[Table], targets: list[Table], expected: float) -> None:
    """AP50 of scenes small enough to draw the curve with a pencil."""
    assert scored(BoxAP(3), *zip(predictions, targets, strict=True))["AP50"] == pytest.approx(expected)


def test_thresholds() -> None:
    """A box with IoU 0.62 is found at the thresholds 0.50, 0.55 and 0.60, three of the ten, and not at 0.75."""
    scores = scored(BoxAP(1), (found(((0.0, 0.0, 10.0, 6.2), 0, 0.9)), truth((A, 0, False))))
    assert {name: scores[name] for name in ("AP", "AP50", "AP75", "AR1")} == pytest.approx(
        {"AP": 0.3, "AP50": 1.0, "AP75": 0.0, "AR1": 0.3}
    )


def test_sizes_are_apart() -> None:
    """An object counts under its own size alone; a size without objects has no score."""
    large = (100.0, 100.0, 300.0, 300.0)
    scores = scored(BoxAP(1), (found((A, 0, 0.9)), truth((A, 0, False), (large, 0, False))))
    assert (scores["APsmall"], scores["APlarge"], scores["ARsmall"], scores["ARlarge"]) == (1.0, 0.0, 1.0, 0.0)
    assert math.isnan(scores["APmedium"]) and math.isnan(scores["ARmedium"])


def test_recall_is_limited_by_the_number_of_detections() -> None:
    """With one detection an image, one of its two objects can be found."""
    scores = scored(BoxAP(1), (found((A, 0, 0.9), (B, 0, 0.8)), truth((A, 0, False), (B, 0, False))))
    assert (scores["AR1"], scores["AR10"], scores["AR100"]) == (0.5, 1.0, 1.0)


class Reached(NamedTuple):
    """The interpolated precision at 101 recalls and the recall at the end, averaged over classes."""

    precision: float
    recall: float


def reference(metric: BoxAP, threshold: float, sizes: tuple[float, float] = (0, 1e10), most: int = 100) -> Reached:
    """COCO's protocol at one threshold, for objects with areas between `sizes`, written out with loops."""
    precisions, recalls = [], []
    for kind in range(metric.classes):
        marks: list[tuple[float, bool]] = []
        objects = 0
        for truths, detections in zip(metric.truths, metric.detections, strict=True):
            boxes, crowd = truths.boxes[truths.classes == kind], truths.marks[truths.classes == kind] > 0
            outside = [not sizes[0] <= (x1 - x0) * (y1 - y0) <= sizes[1] for x0, y0, x1, y1 in boxes]
            objects += sum(not out and not some for out, some in zip(outside, crowd, strict=True))
            mine, scores = detections.boxes[detections.classes == kind], detections.marks[detections.classes == kind]
            overlap = iou(torch.from_numpy(mine), torch.from_numpy(boxes)).numpy()
            inside = coverage(torch.from_numpy(mine), torch.from_numpy(boxes)).numpy()
            taken: set[int] = set()
            for i in np.argsort(-scores, kind="stable")[:most]:
                near = [j for j in range(len(boxes)) if not crowd[j] and j not in taken and overlap[i, j] >= threshold]
                wanted, unwanted = ([j for j in near if outside[j] == out] for out in (False, True))
                if chosen := wanted or unwanted:
                    taken.add(max(chosen, key=lambda j: overlap[i, j]))
                area = np.prod(mine[i][2:] - mine[i][:2])
                in_crowd = any(crowd[j] and inside[i, j] >= threshold for j in range(len(boxes)))
                if wanted or not (unwanted or in_crowd or not sizes[0] <= area <= sizes[1]):
                    marks.append((scores[i], bool(wanted)))
        if objects:
            hits = np.array([hit for _, hit in sorted(marks, key=lambda mark: -mark[0])], dtype=float).cumsum()
            precision = np.append(hits / np.arange(1, len(hits) + 1), 0.0)
            recall = hits / objects
            best = [precision[np.searchsorted(recall, point, side="left") :].max() for point in np.linspace(0, 1, 101)]
            precisions.append(np.mean(best))
            recalls.append(recall[-1])
    return Reached(float(np.mean(precisions)), float(np.mean(recalls)))


@pytest.fixture
def scenes() -> BoxAP:
    """Forty random scenes."""
    metric = BoxAP(4)
    fill(metric)
    return metric


RANGES = {"": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}


def test_random_scenes_match_the_definition(scenes: BoxAP) -> None:
    """All scores equal the definition written out with loops, crowds included."""
    scores, thresholds = scenes.compute(), np.linspace(0.5, 0.95, 10)
    assert 0.1 < scores["AP50"] < 0.9 and 0.1 < scores["APmedium"] < 0.9
    assert scores["AP50"] == pytest.approx(reference(scenes, 0.5).precision, abs=1e-9)
    assert scores["AP75"] == pytest.approx(reference(scenes, 0.75).precision, abs=1e-9)
    for size in ("", "small", "medium"):
        reached = [reference(scenes, threshold, RANGES[size]) for threshold in thresholds]
        assert scores[f"AP{size}"] == pytest.approx(np.mean([one.precision for one in reached]), abs=1e-9)
        assert scores[f"AR{size or 100}"] == pytest.approx(np.mean([one.recall for one in reached]), abs=1e-9)
    first = [reference(scenes, threshold, most=1).recall for threshold in thresholds]
    assert scores["AR1"] == pytest.approx(np.mean(first), abs=1e-9)


def test_nothing_is_printed(scenes: BoxAP, capfd: pytest.CaptureFixture[str]) -> None:
    """The library behind it keeps quiet."""
    scenes.compute()
    assert capfd.readouterr() == ("", "")


def test_the_missing_extra_is_named(scenes: BoxAP, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without faster-coco-eval the error says what to install."""
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ConfigError, match=r"ubertrain\[det\]"):
        scenes.compute()


def test_published_detections_match_the_definition(data_root: Path) -> None:
    """On real VOC images with published detections, the score equals the definition, and is that of a real detector."""
    metric = BoxAP(20)
    fill_with_voc(metric, data_root)
    scores = metric.compute()
    assert scores["AP50"] == pytest.approx(reference(metric, 0.5).precision, abs=1e-9)
    assert scores["AP50"] > 0.5
