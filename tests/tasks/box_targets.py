"""Small levels and labels for the tests of detection."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.annotation.boxes import Boxes as BoxesKind
from ubertrain.engine.level import Level
from ubertrain.ops.anchors import anchors
from ubertrain.ops.assign import Truth
from ubertrain.tasks.boxes import Boxes
from ubertrain.tasks.faster_rcnn import FasterRCNN

LEVELS = [Level(8, 8), Level(12, 16), Level(16, 32)]
SIZE = (64, 96)


def label(*rows: tuple[tuple[float, ...], int], ignore: bool = False) -> dict[str, Tensor]:
    """One image's boxes (box, class), not collated."""
    return {
        "boxes": torch.tensor([box for box, _ in rows]).view(-1, 4),
        "classes": torch.tensor([kind for _, kind in rows], dtype=torch.long),
        "ignore": torch.full((len(rows),), ignore),
    }


TWO = label(((8.0, 8.0, 40.0, 40.0), 0), ((50.0, 20.0, 90.0, 52.0), 2))
TARGET = BoxesKind.collate([TWO, label(), label(((10.0, 5.0, 30.0, 60.0), 1))])


def levels(rows: int = 3, size: tuple[int, int] = SIZE) -> list[Tensor]:
    """Random levels of `rows` images, leaves."""
    return [torch.randn(rows, c, size[0] // s, size[1] // s, requires_grad=True) for c, s in LEVELS]


def proposed(target: Mapping[str, Tensor], count: int = 30) -> dict[str, Tensor]:
    """A collated target with proposals: its boxes, and `count` others."""
    corners = torch.rand(len(target["boxes"]), count, 2, 2) * torch.tensor([SIZE[1], SIZE[0]])
    others = corners.sort(dim=2).values.flatten(2)
    return {**target, "proposals": torch.cat([target["boxes"], others], dim=1)}


def head_of(task: Boxes) -> FasterRCNN:
    """The task's head for `LEVELS`."""
    head = task.make_head(LEVELS)
    assert isinstance(head, FasterRCNN)
    return head


def truth(target: Mapping[str, Tensor]) -> Truth:
    """The collated target as the operators take it."""
    return Truth(target["boxes"], target["classes"], target["ignore"])


def first_stage(task: Boxes, size: tuple[int, int] = SIZE) -> tuple[FasterRCNN, Tensor]:
    """A head and its anchors on the finest level of images of `size`."""
    scales = [8 * scale for scale in task.first.scales]
    return head_of(task), anchors(torch.zeros(size[0] // 8, size[1] // 8), 8, scales, task.first.ratios)


def seeded(task: Boxes, head: nn.Module, values: list[Tensor], target: Any = TARGET, seed: int = 0) -> Tensor:
    """The losses under a seed."""
    torch.manual_seed(seed)
    return task.losses(head, values, target)


def part(value: Any, rows: slice) -> Any:
    """Some rows of every tensor."""
    return pytree.tree_map_only(Tensor, lambda leaf: leaf[rows], value)
