"""Counts the bytes of live tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that were made inside the `with` block and are still alive.

        with ut.LiveBytes() as meter:
            engine.forward_backward(images, targets)
        meter.peak

    Every storage counts once, however many tensors share it, from the operation that made it until it is freed. What existed
    before does not count, and neither does a parameter's gradient once it stands in `.grad`: those are static bytes, known
    without a run. Memory that one kernel takes and gives back (workspaces) is not seen. Works alike on real and on fake
    tensors, on any device; a step is slower under it.

    Args:
        rounding: each storage counts as its bytes rounded up to a multiple of this (512 for CUDA).

    Attributes:
        live: bytes alive now.
        peak: the largest `live` so far.
    """

    def __init__(self, rounding: int = 1) -> None:
        super().__init__()
        self.rounding = rounding
        self.live = 0
        self.peak = 0
        self._counted: dict[int, int] = {}
        self._hooks: dict[int, torch.utils.hooks.RemovableHandle] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        given = {_key(part) for tensor in inputs for part in _dense(tensor)}
        for tensor in inputs:
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad and id(tensor) not in self._hooks:
                self._hooks[id(tensor)] = tensor.register_post_accumulate_grad_hook(self._except_gradient)
        result = func(*args, **kwargs)
        if func is torch.ops.aten.lift_fresh.default:  # a Python constant: made before it got here, fake or real
            return result
        for tensor in pytree.tree_leaves(result):
            for part in _dense(tensor) if isinstance(tensor, Tensor) else ():
                if _key(part) not in given:
                    self._count(part.untyped_storage())
        return result

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._counted:
            return
        size = self._counted[key] = -(-storage.nbytes() // self.rounding) * self.rounding
        weakref.finalize(storage, self._forget, key)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int) -> None:
        self.live -= self._counted.pop(key, 0)

    def _except_gradient(self, parameter: Tensor) -> None:
        for part in () if parameter.grad is None else _dense(parameter.grad):
            self._forget(_key(part))


def _dense(tensor: Tensor) -> tuple[Tensor, ...]:
    """The tensors that hold the memory of `tensor`: itself, or the two parts of a sparse gradient."""
    return (tensor._indices(), tensor._values()) if tensor.layout == torch.sparse_coo else (tensor,)


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
