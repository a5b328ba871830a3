"""What the checks of all kinds share."""

from typing import Any

import torch
from torch import Tensor

from ubertrain.errors import DataError


def expect(condition: Any, message: str) -> None:
    """Raise `DataError(message)` unless `condition` holds."""
    if not condition:
        raise DataError(message)


def expect_tensor(value: Any, what: str, shape: tuple[int | None, ...], dtype: torch.dtype) -> Tensor:
    """`value`, which must be a tensor of `dtype` and `shape`, where None stands for any length.

    Raises:
        DataError: it is not; the message names `what`, the expected and the given.
    """
    expect(isinstance(value, Tensor), f"{what} must be a tensor, not {type(value).__name__}")
    fits = value.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=True))
    wanted = "(" + ", ".join("any" if side is None else str(side) for side in shape) + ")"
    expect(fits, f"{what} must have shape {wanted}, like its image; got {tuple(value.shape)}")
    expect(value.dtype == dtype, f"{what} must be {dtype}; got {value.dtype}")
    return value
