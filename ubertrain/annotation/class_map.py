"""A class for every pixel."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.legend import legend
from ubertrain.annotation.palette import class_colour, class_colours
from ubertrain.annotation.picture import blend
from ubertrain.annotation.values import expect, expect_tensor
from ubertrain.annotation.warp import Warp


class ClassMap(Annotation):
    """(height, width) int64 class ids from 0 to 254; 255 is unknown and is left out of losses and scores.

    Data sets that tell left from right (body parts) derive a kind with their `mirrored` pairs.
    """

    key = "class_map"
    unknown: ClassVar[int] = 255
    mirrored: ClassVar[tuple[tuple[int, int], ...]] = ()
    """Pairs of ids that a flip exchanges, e.g. ((14, 15),) for the left and the right arm."""

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """Raise `DataError` unless `value` covers the image with ids from 0 to 255."""
        classes = expect_tensor(value, "class map", size, torch.int64)
        bad = classes[(classes < 0) | (classes > cls.unknown)]
        expect(not bad.numel(), f"class map has ids outside 0..254 and 255 (unknown), such as {bad[:1].tolist()}")

    @classmethod
    def warp(cls, value: Any, warp: Warp) -> Tensor:
        """The id of the nearest pixel; ids are never mixed. A flip exchanges `mirrored` pairs."""
        if warp.mirrored:
            value = cls._exchanged(value)
        return warp.sample(value[None], mode="nearest", fill=cls.unknown)[0]

    @classmethod
    def collate(cls, values: list[Any]) -> Tensor:
        """(rows, height, width) int64."""
        return torch.stack(values)

    @classmethod
    def draw(cls, image: np.ndarray, value: Any) -> np.ndarray:
        """The classes' colours over `image`."""
        return blend(image, class_colours(value))

    @classmethod
    def draw_named(cls, image: np.ndarray, value: Any, names: Sequence[str]) -> np.ndarray:
        """As `draw`, with the names of the classes that are there, largest first, where there is room for them."""
        ids = np.asarray(value)
        present, pixels = np.unique(ids[ids < len(names)], return_counts=True)
        largest_first = present[np.argsort(-pixels, kind="stable")].tolist()
        return legend(cls.draw(image, value), [(names[index], class_colour(index)) for index in largest_first])

    @classmethod
    def _exchanged(cls, value: Tensor) -> Tensor:
        """`value` with left and right ids swapped."""
        table = torch.arange(cls.unknown + 1)
        for left, right in cls.mirrored:
            table[left], table[right] = right, left
        return table[value]
