import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ubertrain.annotation.boxes import Boxes
from ubertrain.data.voc import CLASSES, Voc
from ubertrain.errors import ConfigError, DataError
from ubertrain.metrics.box_ap import BoxAP
from ubertrain.ops.boxes import coverage, iou

Table = dict[str, Tensor]
A, B, FAR = (0.0, 0.0, 10.0, 10.0), (30.0, 0.0, 40.0, 20.0), (80.0, 80.0, 90.0, 90.0)
NEAR_A = (0.0, 0.0, 10.0, 6.0)  # IoU 0.6 with A
IN_CROWD = (32.0, 2.0, 38.0, 6.0)  # within B, IoU 0.12


def truth(*rows: tuple[tuple[float, ...], int, bool]) -> Table:
    """One image's true boxes (box, class, ignore)."""
    return Boxes.collate([{
        "boxes": torch.tensor([box for box, _, _ in rows]).view(-1, 4),
        "classes": torch.tensor([kind for _, kind, _ in rows], dtype=torch.long),
        "ignore": torch.tensor([ignore for _, _, ignore in rows], dtype=torch.bool),
    }])  # fmt: skip


def found(*rows: tuple[tuple[float, ...], int, float], slots: int = 4) -> Table:
    """One image's detections (box, class, score), padded to `slots`."""
    table = {"boxes": torch.zeros(1, slots, 4), "scores": torch.zeros(1, slots), "classes": torch.full((1, slots), -1)}
    for i, (box, kind, score) in enumerate(rows):
        table["boxes"][0, i], table["classes"][0, i], table["scores"][0, i] = torch.tensor(box), kind, score
    return table


def score(classes: int, *images: tuple[Table, Table]) -> dict[str, float]:
    """The scores of some images, one update each."""
    metric = BoxAP(classes)
    for prediction, target in images:
        metric.update(prediction, target)
    return metric.compute()


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
    assert score(3, *zip(predictions, targets, strict=True))["AP50"] == pytest.approx(expected)


def test_thresholds() -> None:
    """A box with IoU 0.62 is found at the thresholds 0.50, 0.55 and 0.60, three of the ten, and not at 0.75."""
    scores = score(1, (found(((0.0, 0.0, 10.0, 6.2), 0, 0.9)), truth((A, 0, False))))
    assert scores == pytest.approx({"AP": 0.3, "AP50": 1.0, "AP75": 0.0})


@pytest.mark.parametrize("images", [[], [truth()], [truth((A, 0, True))]])
def test_without_any_object_there_is_no_score(images: list[Table]) -> None:
    """With nothing to find, every score is nan, whatever was detected."""
    scores = score(1, *((found((A, 0, 0.9)), image) for image in images))
    assert all(math.isnan(value) for value in scores.values()) and set(scores) == {"AP", "AP50", "AP75"}


def test_a_label_that_is_no_class_is_refused() -> None:
    """A class id outside of the task is an error, not a box that nobody can find."""
    with pytest.raises(DataError, match="class id 3 in the labels; the task has 3 classes"):
        BoxAP(3).update(found(), truth((A, 3, False)))


def reference(metric: BoxAP, threshold: float) -> float:
    """COCO's average precision at one threshold, written out with loops."""
    values = []
    for kind in range(metric.classes):
        marks: list[tuple[float, bool]] = []
        objects = 0
        for truths, detections in zip(metric.truths, metric.detections, strict=True):
            boxes, crowd = truths.boxes[truths.classes == kind], truths.marks[truths.classes == kind] > 0
            objects += int((~crowd).sum())
            mine, scores = detections.boxes[detections.classes == kind], detections.marks[detections.classes == kind]
            overlap = iou(torch.from_numpy(mine), torch.from_numpy(boxes)).numpy()
            inside = coverage(torch.from_numpy(mine), torch.from_numpy(boxes)).numpy()
            taken: set[int] = set()
            for i in np.argsort(-scores, kind="stable"):
                free = [j for j in range(len(boxes)) if not crowd[j] and j not in taken and overlap[i, j] >= threshold]
                if free:
                    taken.add(max(free, key=lambda j: overlap[i, j]))
                if free or not any(crowd[j] and inside[i, j] >= threshold for j in range(len(boxes))):
                    marks.append((scores[i], bool(free)))
        if objects:
            hits = np.array([hit for _, hit in sorted(marks, key=lambda mark: -mark[0])], dtype=float).cumsum()
            precision = np.append(hits / np.arange(1, len(hits) + 1), 0.0)
            recall = hits / objects
            best = [precision[np.searchsorted(recall, point, side="left") :].max() for point in np.linspace(0, 1, 101)]
            values.append(np.mean(best))
    return float(np.mean(values))


def random_scene(generator: torch.Generator) -> tuple[Table, Table]:
    """Up to 7 boxes of 3 classes, and detections that are the boxes moved a little, in other classes, or made up."""
    count = int(torch.randint(0, 8, (), generator=generator))
    corner, size = (torch.rand(count, 2, generator=generator) * 60, torch.rand(count, 2, generator=generator) * 30 + 5)
    boxes = torch.cat([corner, corner + size], dim=1)
    kinds = torch.randint(0, 3, (count,), generator=generator)
    ignore = torch.rand(count, generator=generator) < 0.2
    target = Boxes.collate([{"boxes": boxes, "classes": kinds, "ignore": ignore}])
    moved = torch.cat([boxes + torch.randn(boxes.shape, generator=generator) * 2, boxes + 3, boxes.roll(1, 0)])
    kinds = torch.where(torch.rand(len(moved), generator=generator) < 0.8, kinds.repeat(3), 0)
    scores = torch.rand(len(moved), generator=generator)
    return {"boxes": moved[None], "scores": scores[None], "classes": kinds[None]}, target


@pytest.fixture
def crowd_of_scenes() -> BoxAP:
    """Forty random scenes."""
    generator, metric = torch.Generator().manual_seed(0), BoxAP(4)
    for _ in range(40):
        metric.update(*random_scene(generator))
    return metric


def test_random_scenes_match_the_definition(crowd_of_scenes: BoxAP) -> None:
    """AP50, AP75 and AP equal the definition written out with loops, crowds included."""
    scores = crowd_of_scenes.compute()
    assert 0.1 < scores["AP50"] < 0.9
    assert scores["AP50"] == pytest.approx(reference(crowd_of_scenes, 0.5), abs=1e-9)
    assert scores["AP75"] == pytest.approx(reference(crowd_of_scenes, 0.75), abs=1e-9)
    mean = np.mean([reference(crowd_of_scenes, threshold) for threshold in np.linspace(0.5, 0.95, 10)])
    assert scores["AP"] == pytest.approx(float(mean), abs=1e-9)


def test_parts_merge_to_the_whole_in_any_order(crowd_of_scenes: BoxAP) -> None:
    """Metrics fed with single images and merged backwards score as the whole does."""
    merged = BoxAP(4)
    for prediction, target in reversed(list(zip(crowd_of_scenes.detections, crowd_of_scenes.truths, strict=True))):
        part = BoxAP(4)
        part.detections, part.truths = [prediction], [target]
        merged.merge(part)
    assert merged.compute() == pytest.approx(crowd_of_scenes.compute())


def test_nothing_is_printed(crowd_of_scenes: BoxAP, capfd: pytest.CaptureFixture[str]) -> None:
    """The library behind it keeps quiet."""
    crowd_of_scenes.compute()
    assert capfd.readouterr() == ("", "")


def test_no_boxes_score_nothing(crowd_of_scenes: BoxAP) -> None:
    """The constant answer is no box at all, and its score is 0."""
    target = truth((A, 0, False))
    assert score(1, (crowd_of_scenes.constant().prediction(target), target))["AP50"] == 0


def test_the_missing_extra_is_named(crowd_of_scenes: BoxAP, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without faster-coco-eval the error says what to install."""
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ConfigError, match=r"ubertrain\[det\]"):
        crowd_of_scenes.compute()


def test_published_detections_match_the_definition(data_root: Path) -> None:
    """On real VOC images with published detections, the score equals the definition, and is that of a real detector."""
    folder = data_root / "bench" / "VOC2012_dets"
    names = (folder / "voc.names").read_text().split()
    metric, reader = BoxAP(len(CLASSES)), Voc(str(data_root / "VOCdevkit" / "VOC2012"))
    for sample in (reader.read(index) for index in range(len(reader))):
        if "boxes" in sample.annotations:
            file = folder / "abs_xyx2y2" / f"{Path(sample.source).stem}.txt"
            lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
            rows = [(tuple(map(float, line[2:])), CLASSES.index(names[int(line[0])]), float(line[1])) for line in lines]
            metric.update(found(*rows, slots=len(rows) + 1), Boxes.collate([sample.annotations["boxes"]]))
    scores = metric.compute()
    assert scores["AP50"] == pytest.approx(reference(metric, 0.5), abs=1e-9)
    assert scores["AP50"] > 0.5
