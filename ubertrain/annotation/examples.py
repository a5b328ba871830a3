"""Random valid labels of every kind, with unknown pixels among them: what tasks are checked on."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.depth import Depth
from ubertrain.annotation.edges import Edges
from ubertrain.annotation.normals import Normals


def _class_map(generator: torch.Generator, size: tuple[int, int], classes: int) -> Tensor:
    ids = torch.randint(0, classes, size, generator=generator)
    return torch.where(torch.rand(size, generator=generator) < 0.2, ClassMap.unknown, ids)


def _depth(generator: torch.Generator, size: tuple[int, int], classes: int) -> Tensor:
    metres = 0.5 + 5 * torch.rand(size, generator=generator)
    return torch.where(torch.rand(size, generator=generator) < 0.2, 0.0, metres)


def _normals(generator: torch.Generator, size: tuple[int, int], classes: int) -> Tensor:
    x, y, z = torch.randn(3, *size, generator=generator)
    facing = F.normalize(torch.stack([x, y, -z.abs()]), dim=0)
    return torch.where(torch.rand(size, generator=generator) < 0.2, 0.0, facing)


def _edges(generator: torch.Generator, size: tuple[int, int], classes: int) -> Tensor:
    annotators = int(torch.randint(1, 4, (), generator=generator))
    drawn = torch.rand(annotators, *size, generator=generator) < 0.1
    unknown = torch.rand(size, generator=generator) < 0.2
    return torch.where(unknown, Edges.unknown, drawn.to(torch.uint8))


def _boxes(generator: torch.Generator, size: tuple[int, int], classes: int) -> dict[str, Tensor]:
    """Four boxes with sides from a quarter to a half of the image; the last one is to be ignored."""
    place, side = torch.rand(2, 4, 2, generator=generator).unbind()
    extent = torch.tensor([size[1], size[0]])
    low = place * extent / 2
    boxes = torch.cat([low, low + (0.25 + side / 4) * extent], dim=1)
    ids = torch.randint(0, classes, (4,), generator=generator)
    return {"boxes": boxes, "classes": ids, "ignore": torch.arange(4) == 3}


EXAMPLES: dict[type[Annotation], Callable[[torch.Generator, tuple[int, int], int], Any]] = {
    ClassMap: _class_map, Depth: _depth, Normals: _normals, Edges: _edges, Boxes: _boxes,
}  # fmt: skip
"""Kind -> `make(generator, (height, width), classes)`, a random valid value of it."""
