"""Sparse matrices for products with tall dense ones: every row a bag of entries, the product an `embedding_bag`.

torch's kernels for embedding bags are made for long tables of short rows, on every device. They are several times faster
than its sparse products here, need no intermediate, and add in a fixed order, so that results repeat bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Bags(NamedTuple):
    """A sparse matrix of `len(starts)` rows: `bags @ dense`, for `dense` (columns, width) of the weights' dtype.

    Attributes:
        columns: (entries,) int32, the column of every entry, row by row.
        weights: (entries,) float, its value; a column may appear more than once in a row.
        starts: (rows,) int32, where in them each row begins.
    """

    columns: Tensor
    weights: Tensor
    starts: Tensor

    @classmethod
    def of_band(cls, band: Tensor) -> Bags:
        """A square matrix that is 0 away from its diagonal, from its diagonals.

        Args:
            band: (length, 2 * reach + 1), row by row the columns from `reach` before to `reach` after the diagonal; what
                lies outside of the matrix is ignored.
        """
        length, reach = len(band), band.shape[1] // 2
        columns = torch.arange(length, device=band.device)[:, None] + torch.arange(-reach, reach + 1, device=band.device)
        there = (columns >= 0) & (columns < length)
        counts = there.sum(dim=1)
        return cls(columns[there].int(), band[there], (counts.cumsum(0) - counts).int())

    def repeated(self, times: int, columns: int) -> Bags:
        """The block diagonal matrix of `times` of this one, which has so many `columns`."""
        blocks = torch.arange(times, dtype=torch.int32, device=self.starts.device)[:, None]
        return Bags(
            (self.columns + blocks * columns).flatten(),
            self.weights.repeat(times),
            (self.starts + blocks * len(self.columns)).flatten(),
        )

    def __matmul__(self, dense: Tensor) -> Tensor:
        return F.embedding_bag(self.columns, dense, self.starts, mode="sum", per_sample_weights=self.weights)

    def dense(self, columns: int) -> Tensor:
        """The matrix itself, (rows, columns)."""
        return self @ torch.eye(columns, dtype=self.weights.dtype, device=self.weights.device)
