"""Where annotators drew boundaries."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.ramp import ink
from ubertrain.annotation.values import expect, expect_tensor
from ubertrain.annotation.warp import Warp


class Edges(Annotation):
    """(annotators, height, width) uint8: 1 on a boundary, 0 elsewhere, 255 unknown. One plane per annotator, at least one."""

    key = "edges"
    unknown: ClassVar[int] = 255

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """Raise `DataError` unless `value` has at least one plane over the image, of 0, 1 and 255."""
        edges = expect_tensor(value, "edges", (None, *size), torch.uint8)
        expect(len(edges), "edges have no annotator's plane; leave the label out, or give one plane of 0")
        bad = edges[(edges > 1) & (edges != cls.unknown)]
        expect(not bad.numel(), f"edges must be 0, 1 or 255 (unknown); {bad.numel()} pixels are not, like {bad[:1].tolist()}")

    @classmethod
    def warp(cls, value: Any, warp: Warp) -> Tensor:
        """A pixel is a boundary if any of the source pixels under it is: thin lines survive shrinking, a little thicker."""
        # In uint8, one more puts "unknown" below "no" below "yes": 255 -> 0, 0 -> 1, 1 -> 2.
        return warp.sample(value + 1, mode="max", fill=0) - 1

    @classmethod
    def collate(cls, values: list[Any]) -> Tensor:
        """(rows, most annotators, height, width) uint8; missing annotators are unknown everywhere."""
        most = max(len(value) for value in values)
        table = torch.full((len(values), most, *values[0].shape[1:]), cls.unknown, dtype=torch.uint8)
        for row, value in enumerate(values):
            table[row, : len(value)] = value
        return table

    @classmethod
    def draw(cls, image: np.ndarray, value: Any) -> np.ndarray:
        """Dark on white, darker where more annotators agree; grey where nobody knows."""
        planes = np.asarray(value)
        known = planes != cls.unknown
        voters = known.sum(axis=0)
        share = (planes * known).sum(axis=0) / np.maximum(voters, 1)
        return np.where((voters > 0)[..., None], ink(share), np.uint8(200))
