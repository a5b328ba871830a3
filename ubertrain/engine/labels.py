"""Which rows of a batch carry a task's label, and what the labels are."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ubertrain.errors import TaskError


@dataclass(frozen=True)
class Labels:
    """The labels of one task in one batch.

    Attributes:
        value: any pytree; every tensor leaf has one row per entry of `rows` in its first dimension, and every list or tuple
            of non-tensors is left as it is.
        rows: the positions in the batch that are labelled, unique; None means all rows of the batch, in order.
    """

    value: Any
    rows: Sequence[int] | None = None

    @classmethod
    def of(cls, target: "Labels | Any") -> "Labels":
        """`target` itself if it is `Labels`, else labels for all rows."""
        return target if isinstance(target, cls) else cls(target)

    def positions(self, batch: int, task: str) -> list[int]:
        """The labelled positions in a batch of `batch` images.

        Raises:
            TaskError: rows are no list of integers, a row is named twice or lies outside the batch, or a label has another
                number of rows.
        """
        rows = list(range(batch)) if self.rows is None else self._integers(task)
        if len(set(rows)) != len(rows) or any(not 0 <= row < batch for row in rows):
            raise TaskError(f"task {task!r}: rows {rows} must be unique and within the batch of {batch} images")
        for leaf in pytree.tree_leaves(self.value):
            if isinstance(leaf, torch.Tensor) and (leaf.ndim == 0 or len(leaf) != len(rows)):
                raise TaskError(
                    f"task {task!r}: a label of shape {tuple(leaf.shape)} does not have one entry for each of its "
                    f"{len(rows)} labelled rows; pass Labels(value, rows) with the labelled rows alone"
                )
        return rows

    def _integers(self, task: str) -> list[int]:
        """`rows`, given as any sequence, numpy array or tensor."""
        given: Any = self.rows
        rows = given.tolist() if hasattr(given, "tolist") else given
        try:
            if any(isinstance(row, bool) for row in rows):
                raise TypeError("a mask")
            return [operator.index(row) for row in rows]
        except TypeError as error:
            raise TaskError(f"task {task!r}: rows must be positions in the batch, like [0, 2], got {self.rows!r}") from error

    def part(self, start: int, stop: int) -> Any:
        """The value cut to labelled rows `start` to `stop` (counted within the labels, not within the batch)."""
        return pytree.tree_map_only(torch.Tensor, lambda leaf: leaf[start:stop], self.value)
