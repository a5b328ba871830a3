"""Where branches meet the trunk: values go out detached, gradients come in once, summed, and are handed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.engine.rows import add_rows, is_run, take


class Tap:
    """One tapped value of one step: any pytree of tensors."""

    def __init__(self, value: Any) -> None:
        leaves, self._structure = pytree.tree_flatten(value)
        self._leaves: list[_TapLeaf | Any] = [_TapLeaf(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    def read(self, rows: Sequence[int], batch: int) -> Any:
        """The labelled rows, detached; `add_gradients` collects what a backward has left on them."""
        leaves = [leaf.read(rows, batch) if isinstance(leaf, _TapLeaf) else leaf for leaf in self._leaves]
        return pytree.tree_unflatten(leaves, self._structure)

    def add_gradients(self, level: Any, rows: Sequence[int], batch: int) -> None:
        """Add the gradients of a `level` that `read(rows, batch)` returned."""
        for leaf, part in zip(self._leaves, pytree.tree_leaves(level), strict=True):
            if isinstance(leaf, _TapLeaf):
                leaf.add(part, rows, batch)

    def free(self) -> list[Tensor]:
        """Let go of the values, and return scalars from which a backward sends the gathered gradients into the trunk."""
        roots = [leaf.free() for leaf in self._leaves if isinstance(leaf, _TapLeaf)]
        return [root for root in roots if root is not None]


class _TapLeaf:
    """A tapped tensor and its summed gradient (in a box of at most one)."""

    def __init__(self, tensor: Tensor) -> None:
        self.value: Tensor | None = tensor
        self.box: list[Tensor] = []

    def read(self, rows: Sequence[int], batch: int) -> Tensor:
        assert self.value is not None, "a tap was read after it was freed"
        whole = list(rows) == list(range(batch))
        part = (self.value if whole else take(self.value, rows)).detach()
        if not self.value.requires_grad:
            return part
        part.requires_grad_()
        if self.box and (whole or is_run(rows)):  # let autograd add in place
            part.grad = self.box[0] if whole else self.box[0].narrow(0, rows[0], len(rows))
        return part

    def add(self, part: Tensor, rows: Sequence[int], batch: int) -> None:
        gradient, part.grad = part.grad, None
        if gradient is None:
            return
        if not self.box:
            whole = list(rows) == list(range(batch))
            self.box.append(gradient if whole else self._spread(gradient, rows))
        elif gradient.untyped_storage()._cdata != self.box[0].untyped_storage()._cdata:
            add_rows(self.box[0], rows, gradient)

    def _spread(self, gradient: Tensor, rows: Sequence[int]) -> Tensor:
        assert self.value is not None
        total = torch.zeros_like(self.value, requires_grad=False)
        add_rows(total, rows, gradient)
        return total

    def free(self) -> Tensor | None:
        """Made late, a root is among the first nodes of the trunk's backward: its gradient comes before the trunk's own."""
        value, self.value = self.value, None
        return _Inject.apply(value, self.box) if self.box else None


class _Inject(torch.autograd.Function):
    """A scalar whose backward pops a gradient out of a box and sends it to `tensor`.

    Popped, not captured: a gradient handed to `torch.autograd.backward` directly would be pinned by the caller until the whole
    backward is over.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, box: list[Tensor]) -> Tensor:
        ctx.box = box
        return tensor.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *unused: Tensor) -> tuple[Tensor, None]:
        return ctx.box.pop(), None
