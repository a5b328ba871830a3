"""Maps on a grid of cells that stand for one value per pixel: what a dense head knows before it is enlarged."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.ops.pixels import enlarge


@dataclass(frozen=True)
class OnGrid:
    """Values of cells, between which those of pixels are interpolated bilinearly.

    A head that returns this in place of its enlarged scores leaves the enlarging to the loss, which can do it a band of rows at
    a time (`ops.banded`). A pytree with one leaf, `values`.

    Attributes:
        values: (rows, channels, height, width), float.
        stride: pixels per cell along a side.
        corners: where the values stand. False: a cell is a block of stride x stride pixels and has its value in the middle
            (align_corners=False). True: cell (i, j) has the value of pixel (i * stride, j * stride) (align_corners=True), where
            convolutions with odd kernels have their features.
    """

    values: Tensor
    stride: int
    corners: bool = False

    def pixels(self) -> Tensor:
        """The enlarged map: height * stride rows of pixels, or with `corners` (height - 1) * stride + 1."""
        if not self.corners:
            return enlarge(self.values, self.stride)
        return self.values if self.stride == 1 else enlarge_corners(self.values, self.stride)

    def covered(self, cells: int) -> int:
        """How many pixels a side of so many cells covers; beyond them the last one is repeated."""
        return (cells - 1) * self.stride + 1 if self.corners else cells * self.stride

    def tents(self) -> Tensor:
        """(stride, 3): what the value of each pixel of a cell's block takes from the cell before, its own and the one after.

        With `corners` the block begins at the cell's pixel.
        """
        pixel = torch.arange(self.stride, device=self.values.device, dtype=self.values.dtype)
        place = pixel / self.stride if self.corners else (pixel + 0.5) / self.stride - 0.5
        return torch.stack([(-place).clamp(min=0), 1 - place.abs(), place.clamp(min=0)], dim=-1)

    def neighbours(self, start: int, stop: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
        """For the pixels from `start` to `stop` along a side of so many cells: two cells that each lies between, and a share.

        The share is that of the second cell.
        """
        place = self._places(start, stop, cells)
        first = place.floor()
        second = (first + 1).clamp(max=cells - 1)
        return first.long(), second.long(), place - first

    def shares(self, start: int, stop: int, cells: int) -> tuple[slice, Tensor]:
        """The same as a matrix: the cells between which the pixels lie, and (those cells, stop - start) shares."""
        end = min(self._cell_before(stop - 1) + 2, cells)
        begin = min(max(self._cell_before(start), 0), end - 1)
        cell = torch.arange(begin, end, device=self.values.device, dtype=self.values.dtype)
        return slice(begin, end), (1 - (self._places(start, stop, cells) - cell[:, None]).abs()).clamp(min=0)

    def _places(self, start: int, stop: int, cells: int) -> Tensor:
        """Where the pixels from `start` to `stop` lie along a side of so many cells, in cells."""
        pixel = torch.arange(start, stop, device=self.values.device, dtype=self.values.dtype)
        place = pixel / self.stride if self.corners else (pixel + 0.5) / self.stride - 0.5
        return place.clamp(0, cells - 1)

    def _cell_before(self, pixel: int) -> int:
        """The last cell whose value does not stand behind that of `pixel`; -1 for those before the first cell's."""
        return pixel // self.stride if self.corners else (2 * pixel + 1 - self.stride) // (2 * self.stride)


pytree.register_pytree_node(
    OnGrid,
    lambda grid: ([grid.values], (grid.stride, grid.corners)),
    lambda leaves, context: OnGrid(next(iter(leaves)), *context),
    serialized_type_name="ubertrain.ops.grid.OnGrid",
)


def enlarge_corners(values: Tensor, factor: int) -> Tensor:
    """`values` (rows, channels, height, width) with factor - 1 new values between each two, bilinearly (align_corners=True)."""
    size = ((values.shape[-2] - 1) * factor + 1, (values.shape[-1] - 1) * factor + 1)
    return F.interpolate(values, size=size, mode="bilinear", align_corners=True)
