"""Work of the operations that torch runs, counted as they are dispatched: FLOPs, or seconds by a model of a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

OpCost = Callable[[Any, tuple[Any, ...], dict[str, Any], Any], float]
"""The work of one operation from the operator, its arguments, its keywords and its result."""


class Work(TorchDispatchMode):
    """Adds up the work of what runs inside the `with` block, on real or fake tensors, backward included.

    A mode and no hooks, unlike torch's `FlopCounterMode`: it may be nested with `LiveBytes` without keeping tensors alive.

    Args:
        cost: of one operation.

    Attributes:
        total: work so far.
    """

    def __init__(self, cost: OpCost) -> None:
        super().__init__()
        self.total = 0.0
        self._cost = cost

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.total += self._cost(func, args, kwargs, result)
        return result


def flops(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> float:
    """FLOPs of convolutions, matrix products and attention by torch's formulas; everything else counts nothing."""
    formula = flop_registry.get(func._overloadpacket)
    return 0.0 if formula is None else float(formula(*args, **kwargs, out_val=result))


def moved_bytes(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """Bytes that an operation reads and writes if it touches every argument and result once; expanded tensors are small."""
    leaves = (leaf for leaf in pytree.tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
    return sum(_touched(leaf) for leaf in leaves)


def _touched(tensor: Tensor) -> int:
    size = tensor.numel() * tensor.element_size()
    return min(size, tensor.untyped_storage().nbytes()) if tensor.layout == torch.strided else size
