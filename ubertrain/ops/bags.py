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
    def of_candidates(cls, columns: Tensor, weights: Tensor, there: Tensor) -> Bags:
        """Rows with as many candidates each, of which those not `there` are left out.

        Args:
            columns: (rows, candidates) integer.
            weights: (rows, candidates) or what broadcasts to it.
            there: (rows, candidates) bool.
        """
        counts = there.sum(dim=1)
        return cls(columns[there].int(), weights.expand_as(columns)[there], (counts.cumsum(0) - counts).int())

    def __matmul__(self, dense: Tensor) -> Tensor:
        return F.embedding_bag(self.columns, dense, self.starts, mode="sum", per_sample_weights=self.weights)

    def dense(self, columns: int) -> Tensor:
        """The matrix itself, (rows, columns)."""
        return self @ torch.eye(columns, dtype=self.weights.dtype, device=self.weights.device)
