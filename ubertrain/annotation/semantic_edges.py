"""Boundaries of objects, class by class."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.palette import class_colour
from ubertrain.annotation.values import expect, expect_tensor
from ubertrain.annotation.warp import Warp

_UNKNOWN_GREY = 200


class SemanticEdges(Annotation):
    """(classes, height, width) uint8: 1 on a boundary of the class, 2 inside of it, 0 elsewhere, 255 unknown.

    A pixel may be on boundaries of several classes. 2 says no more than 0 for learning; a score may need to know what lies
    inside of an object (`SemanticBoundaryF`). A set that does not know it writes 0.
    """

    key = "semantic_edges"
    boundary: ClassVar[int] = 1
    inside: ClassVar[int] = 2
    unknown: ClassVar[int] = 255

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """Raise `DataError` unless `value` has at least one plane over the image, of 0, 1, 2 and 255."""
        edges = expect_tensor(value, "semantic edges", (None, *size), torch.uint8)
        expect(len(edges), "semantic edges have no class's plane; leave the label out, or give one plane of 0 for each class")
        bad = edges[(edges > cls.inside) & (edges != cls.unknown)]
        expect(
            not bad.numel(),
            f"semantic edges must be 0, 1 (boundary), 2 (inside) or 255 (unknown); {bad.numel()} pixels are not, "
            f"like {bad[:1].tolist()}",
        )

    @classmethod
    def warp(cls, value: Any, warp: Warp) -> Tensor:
        """A pixel is a boundary if any of the source pixels under it is: thin lines survive shrinking, a little thicker."""
        # The largest wins: unknown 0, outside 1, inside 2, boundary 3.
        ranks = torch.zeros(256, dtype=torch.uint8)
        ranks[[0, cls.inside, cls.boundary]] = torch.tensor([1, 2, 3], dtype=torch.uint8)
        values = torch.tensor([cls.unknown, 0, cls.inside, cls.boundary], dtype=torch.uint8)
        return values[warp.sample(ranks[value.long()], mode="max", fill=0).long()]

    @classmethod
    def collate(cls, values: list[Any]) -> Tensor:
        """(rows, classes, height, width) uint8."""
        return torch.stack(values)

    @classmethod
    def draw(cls, image: np.ndarray, value: Any) -> np.ndarray:
        """Boundaries in the colours of their classes on white; grey where nobody knows."""
        planes = np.asarray(value)
        picture = coloured(planes == cls.boundary)
        return np.where((planes == cls.unknown).all(axis=0)[..., None], np.uint8(_UNKNOWN_GREY), picture)


def coloured(strength: Any) -> np.ndarray:
    """Boundaries (classes, height, width) of strength 0 to 1 as (height, width, 3) uint8 on white.

    Each class has its colour, the first that of id 1. The strongest class's shows, the more the stronger it is.
    """
    strength = np.clip(np.asarray(strength, dtype=np.float32), 0, 1)
    colours = np.array([class_colour(1 + index) for index in range(len(strength))], dtype=np.float32)
    most = strength.max(axis=0)[..., None]
    return (255 * (1 - most) + most * colours[strength.argmax(axis=0)]).astype(np.uint8)
