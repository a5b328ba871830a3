"""True boxes and detections for the tests of average precision."""

from pathlib import Path

import torch
from torch import Tensor

from ubertrain.annotation.boxes import Boxes
from ubertrain.data.voc import CLASSES, Voc
from ubertrain.metrics.found_boxes import BoxMetric

Table = dict[str, Tensor]
A, B, FAR = (0.0, 0.0, 10.0, 10.0), (30.0, 0.0, 40.0, 20.0), (80.0, 80.0, 90.0, 90.0)
NEAR_A = (0.0, 0.0, 10.0, 6.0)
"""IoU 0.6 with A."""
IN_CROWD = (32.0, 2.0, 38.0, 6.0)
"""Within B, IoU 0.12."""


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


def scored(metric: BoxMetric, *images: tuple[Table, Table]) -> dict[str, float]:
    """The scores of some images, one update each."""
    for prediction, target in images:
        metric.update(prediction, target)
    return metric.compute()


def random_scene(generator: torch.Generator) -> tuple[Table, Table]:
    """Up to 7 boxes of 3 classes, and detections that are the boxes moved a little, in other classes, or made up."""
    count = int(torch.randint(0, 8, (), generator=generator))
    corner, size = (torch.rand(count, 2, generator=generator) * 60, torch.rand(count, 2, generator=generator) * 50 + 5)
    boxes = torch.cat([corner, corner + size], dim=1)
    kinds = torch.randint(0, 3, (count,), generator=generator)
    ignore = torch.rand(count, generator=generator) < 0.2
    target = Boxes.collate([{"boxes": boxes, "classes": kinds, "ignore": ignore}])
    moved = torch.cat([boxes + torch.randn(boxes.shape, generator=generator) * 2, boxes + 3, boxes.roll(1, 0)])
    kinds = torch.where(torch.rand(len(moved), generator=generator) < 0.8, kinds.repeat(3), 0)
    scores = torch.rand(len(moved), generator=generator)
    return {"boxes": moved[None], "scores": scores[None], "classes": kinds[None]}, target


def fill(metric: BoxMetric, scenes: int = 40) -> None:
    """Update `metric` with random scenes, the same every time."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(scenes):
        metric.update(*random_scene(generator))


def fill_with_voc(metric: BoxMetric, root: Path) -> None:
    """Update `metric` with real images of VOC and a published detector's boxes."""
    folder = root / "bench" / "VOC2012_dets"
    names = (folder / "voc.names").read_text().split()
    reader = Voc(str(root / "VOCdevkit" / "VOC2012"), labels=["boxes"])
    for sample in (reader.read(index) for index in range(len(reader))):
        file = folder / "abs_xyx2y2" / f"{Path(sample.source).stem}.txt"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        rows = [(tuple(map(float, line[2:])), CLASSES.index(names[int(line[0])]), float(line[1])) for line in lines]
        metric.update(found(*rows, slots=len(rows) + 1), Boxes.collate([sample.annotations["boxes"]]))
