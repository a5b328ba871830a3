"""Which rows of a batch carry a task's label, and what the labels are."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ubertrain.engine.rows import take_rows
from ubertrain.errors import TaskError


@dataclass(frozen=True)
class Labels:
    """The labels of one task in one batch.

    Attributes:
        value: any pytree; every tensor leaf has one row per entry of `rows` in its first dimension. So has a list or tuple
            without tensors that is the value itself; anything else that is no tensor is left as it is when rows are taken.
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
        return self.chosen(range(start, stop))

    def chosen(self, places: Sequence[int]) -> Any:
        """The value cut to some of the labelled rows (counted within the labels, not within the batch).

        Raises:
            TaskError: it holds a list, tuple or array that may be one entry per row or may concern all of them.
        """
        count = self._count()
        if _has_no_tensor(self.value) and isinstance(self.value, list | tuple) and len(self.value) == count:
            return type(self.value)([self.value[place] for place in places])
        pytree.tree_map(lambda part: _refuse_unclear(part, count), self.value, is_leaf=_is_plain_sequence)
        return take_rows(self.value, places, count)

    def _count(self) -> int:
        """How many rows are labelled, also where they are not named."""
        if self.rows is not None:
            return len(self.rows)
        tensors = (leaf for leaf in pytree.tree_leaves(self.value) if isinstance(leaf, torch.Tensor))
        return len(next(tensors, self.value))


def _has_no_tensor(value: Any) -> bool:
    return not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))


def _is_plain_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple) and _has_no_tensor(value)


def _refuse_unclear(part: Any, count: int) -> None:
    """Raise `TaskError` if something in labels that is no tensor has as many entries as there are rows."""
    if not isinstance(part, torch.Tensor | torch.Size | str | bytes) and hasattr(part, "__len__") and len(part) == count:
        raise TaskError(
            f"labels of {count} rows, which are to be taken a few at a time, hold a {type(part).__name__} of {count} entries "
            "that is no tensor: whether it is one entry per image cannot be told; give it as a tensor"
        )
