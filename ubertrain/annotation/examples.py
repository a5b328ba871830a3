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
from ubertrain.annotation.proposed_boxes import ProposedBoxes
from ubertrain.annotation.semantic_edges import SemanticEdges
from ubertrain.annotation.stereo import Stereo, stereo_value


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


def _semantic_edges(generator: torch.Generator, size: tuple[int, int], classes: int) -> Tensor:
    values = torch.rand(classes, *size, generator=generator)
    planes = torch.where(values < 0.1, SemanticEdges.boundary, torch.where(values > 0.8, SemanticEdges.inside, 0))
    return torch.where(torch.rand(size, generator=generator) < 0.2, SemanticEdges.unknown, planes).to(torch.uint8)


def _boxes(generator: torch.Generator, size: tuple[int, int], classes: int) -> dict[str, Tensor]:
    """Four boxes with sides from a quarter to a half of the image; the last one is to be ignored."""
    place, side = torch.rand(2, 4, 2, generator=generator).unbind()
    extent = torch.tensor([size[1], size[0]])
    low = place * extent / 2
    boxes = torch.cat([low, low + (0.25 + side / 4) * extent], dim=1)
    ids = torch.randint(0, classes, (4,), generator=generator)
    return {"boxes": boxes, "classes": ids, "ignore": torch.arange(4) == 3}


def _proposed(generator: torch.Generator, size: tuple[int, int], classes: int) -> dict[str, Tensor]:
    """As `_boxes`, with 20 proposals: the four boxes moved a little, and others."""
    value, extent = _boxes(generator, size, classes), torch.tensor([size[1], size[0]]).repeat(2)
    corners = torch.rand(16, 2, 2, generator=generator).sort(dim=1).values.flatten(1) * extent
    near = value["boxes"] + 3 * torch.rand(4, 4, generator=generator)
    return {**value, "proposals": torch.cat([near, corners]).minimum(extent)}


def _stereo(generator: torch.Generator, size: tuple[int, int], classes: int) -> dict[str, Tensor]:
    """Two views of noise; the disparity of a fifth of the pixels is unknown."""
    own, other = torch.randint(0, 256, (2, 3, *size), generator=generator, dtype=torch.uint8)
    disparity = 0.01 + 0.2 * torch.rand(size, generator=generator)
    disparity = torch.where(torch.rand(size, generator=generator) < 0.2, 0.0, disparity)
    side = 1.0 if torch.rand((), generator=generator) < 0.5 else -1.0
    return stereo_value(own, other, disparity=disparity, scale=0.5, side=side)


EXAMPLES: dict[type[Annotation], Callable[[torch.Generator, tuple[int, int], int], Any]] = {
    ClassMap: _class_map, Depth: _depth, Normals: _normals, Edges: _edges, ProposedBoxes: _proposed, Boxes: _boxes,
    Stereo: _stereo, SemanticEdges: _semantic_edges,
}  # fmt: skip
"""Kind -> `make(generator, (height, width), classes)`, a random valid value of it; derived kinds come first."""
