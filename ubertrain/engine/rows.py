"""Some of a batch's images: a view where the rows are neighbours, a copy where they are not."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.errors import TaskError


def is_run(rows: Sequence[int]) -> bool:
    """Whether `rows` are consecutive and ascending."""
    return list(rows) == list(range(rows[0], rows[0] + len(rows)))


def take_rows(value: Any, rows: Sequence[int], batch: int) -> Any:
    """The given rows of every tensor in `value`; `value` itself for all rows in order."""
    if list(rows) == list(range(batch)):
        return value
    return pytree.tree_map_only(Tensor, lambda leaf: take(leaf, rows, batch), value)


def take(tensor: Tensor, rows: Sequence[int], batch: int) -> Tensor:
    """Rows of one tensor: a view if they are consecutive, else a copy.

    Raises:
        TaskError: the tensor does not have one row for each of the `batch` images.
    """
    if tensor.ndim == 0 or len(tensor) != batch:
        raise TaskError(
            f"labelled rows cannot be taken from a tapped tensor of shape {tuple(tensor.shape)}: its first dimension is not "
            f"the {batch} images of the batch"
        )
    return tensor.narrow(0, rows[0], len(rows)) if is_run(rows) else tensor[index(rows, tensor.device)]


def add_rows(total: Tensor, rows: Sequence[int], part: Tensor) -> None:
    """Add `part` to the given rows of `total`, in place."""
    if is_run(rows):
        total.narrow(0, rows[0], len(rows)).add_(part)
    else:
        total.index_add_(0, index(rows, total.device), part)


def index(rows: Sequence[int], device: torch.device) -> Tensor:
    """`rows` as an index tensor."""
    return torch.tensor(list(rows), dtype=torch.long, device=device)
