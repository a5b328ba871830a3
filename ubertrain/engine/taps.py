"""Where branches meet the trunk: values go out detached, gradients come in one by one, are summed, and are handed over."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.engine.rows import add_rows, take_rows
from ubertrain.errors import TaskError


def alias(value: Any) -> Any:
    """A view of each tensor with a gradient node of its own.

    What comes through it, from one branch or from the trunk above a tap, is so summed before it meets what comes through
    others: the engine's order of summation.
    """
    return pytree.tree_map_only(Tensor, lambda leaf: leaf.view_as(leaf), value)


def check_tap(name: str, value: Any) -> None:
    """Raise `TaskError` if the output of a tapped stage holds anything in which tensors could hide."""
    for leaf in pytree.tree_leaves(value):
        if not isinstance(leaf, _PLAIN):
            raise TaskError(
                f"tap {name!r} holds a {type(leaf).__name__}, in which the engine finds no tensors; register the class "
                "with torch.utils._pytree (register_dataclass or register_pytree_node), or give a tuple, list or dict"
            )


_PLAIN = (
    *(Tensor, numbers.Number, str, bytes, type(None), Enum),
    *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format),
)


class AliasGate:
    """Stands between a tap and the next stage, so that the trunk's gradient is one term of the tap's, as a branch's is."""

    def through(self, value: Any, *, first: bool) -> Any:
        """An alias of `value`; recomputed values are not differentiated and pass as they are."""
        return alias(value) if first else value


class Tap:
    """One tapped value of one step: any pytree of tensors.

    Args:
        value: the output of a stage.
        others: the taps of the same step so far. A tensor that is in several taps, or several times in one, gathers one sum,
            as it does in plain autograd.
    """

    def __init__(self, value: Any, others: Iterable[Tap] = ()) -> None:
        known = {id(leaf.value): leaf for tap in others for leaf in tap._leaves if isinstance(leaf, _TapLeaf)}
        leaves, self._structure = pytree.tree_flatten(value)
        self._leaves: list[_TapLeaf | Any] = [
            known.setdefault(id(leaf), _TapLeaf(leaf)) if isinstance(leaf, Tensor) else leaf for leaf in leaves
        ]

    def read(self, rows: Sequence[int], batch: int) -> Any:
        """The labelled rows, cut off from the trunk; a backward that reaches them adds its gradient to the tap's."""
        leaves = [leaf.read(rows, batch) if isinstance(leaf, _TapLeaf) else leaf for leaf in self._leaves]
        return pytree.tree_unflatten(leaves, self._structure)

    def gathered(self, tensor: Tensor) -> Tensor | None:
        """The gradient that has been gathered for one of the tap's tensors, which is let go; None if there is none."""
        for leaf in self._leaves:
            if isinstance(leaf, _TapLeaf) and leaf.value is tensor and leaf.gathered.total is not None:
                return leaf.gathered.pop()
        return None

    def send(self, value: Any) -> list[Tensor]:
        """Scalars from which a backward sends the gathered gradients into `value`, which is the tap's made again."""
        pairs = zip(self._leaves, pytree.tree_leaves(value), strict=True)
        joined = {id(leaf): (leaf, again) for leaf, again in pairs if isinstance(leaf, _TapLeaf) and again.requires_grad}
        return [_Inject.apply(again, leaf.gathered) for leaf, again in joined.values() if leaf.gathered.total is not None]

    def drop(self) -> None:
        """Let go of the values; what has been gathered stays."""
        for leaf in self._leaves:
            if isinstance(leaf, _TapLeaf):
                leaf.value = leaf.gathered.like = None

    @property
    def has_gathered(self) -> bool:
        """Whether any gradient has come in."""
        return any(isinstance(leaf, _TapLeaf) and leaf.gathered.total is not None for leaf in self._leaves)

    def free(self) -> list[Tensor]:
        """Let go of the values, and return scalars from which a backward sends the gathered gradients into the trunk."""
        roots = [leaf.free() for leaf in self._leaves if isinstance(leaf, _TapLeaf)]
        return [root for root in roots if root is not None]


class _TapLeaf:
    """A tapped tensor and its summed gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.value: Tensor | None = tensor
        self.gathered = _Gathered(tensor.detach())

    def read(self, rows: Sequence[int], batch: int) -> Tensor:
        assert self.value is not None, "a tap was read after it was freed"
        part = take_rows(self.value.detach(), rows, batch)
        if not self.value.requires_grad:
            return part
        whole = list(rows) == list(range(batch))
        return _Gather.apply(part.requires_grad_(), self.gathered, None if whole else rows)

    def free(self) -> Tensor | None:
        """Made late, a root is among the first nodes of the trunk's backward: its gradient comes before the trunk's own."""
        value, self.value, self.gathered.like = self.value, None, None
        return None if value is None or self.gathered.total is None else _Inject.apply(value, self.gathered)


class _Gathered:
    """The gradient of one tapped tensor, summed over what has read it. Knows the tensor's values only, not its graph."""

    def __init__(self, like: Tensor) -> None:
        self.like: Tensor | None = like
        self.total: Tensor | None = None

    def add(self, part: Tensor, rows: Sequence[int] | None) -> None:
        """Add the gradient of some rows, or of all (None), with the strides that autograd's own sum would have."""
        assert self.like is not None, "a gradient came in after the tap was freed"
        if rows is not None and self.total is not None and dense(self.total):
            add_rows(self.total, rows, part)
        elif rows is not None:
            whole = torch.zeros_like(self.like, memory_format=torch.contiguous_format)  # as slicing's own backward makes it
            add_rows(whole, rows, part)
            self.total = whole if self.total is None else _sum_with_contiguous(self.total, whole)
        elif self.total is None:
            self.total = _copy(part)  # autograd may hand the same memory to others, e.g. to both terms of a sum
        else:
            self.total = add_to(self.total, part)

    def pop(self) -> Tensor:
        """The sum, which is let go."""
        total, self.total = self.total, None
        assert total is not None
        return total


def dense(tensor: Tensor) -> bool:
    """Whether the values fill a piece of memory, each its own place, in any order of the dimensions."""
    values = 1
    for stride, size in sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1):
        if stride != values:
            return False
        values *= size
    return True


def add_to(total: Tensor, part: Tensor) -> Tensor:
    """A sum whose strides are those of autograd's: in place where `total` is dense, so one sum and one part are the most."""
    return total.add_(part) if dense(total) else total + part


def _sum_with_contiguous(total: Tensor, whole: Tensor) -> Tensor:
    """`total + whole`, in place in `whole` where the sum would be contiguous too."""
    strides = [stride for stride, size in zip(total.stride(), total.shape, strict=True) if size > 1 and stride > 0]
    return whole.add_(total) if strides == sorted(strides, reverse=True) else total + whole


def _copy(gradient: Tensor) -> Tensor:
    """A copy with the same strides, of 0 too: some backward kernels round otherwise on the same values laid out otherwise."""
    small = gradient
    for dim, stride in enumerate(gradient.stride()):
        if stride == 0 and gradient.shape[dim] > 1:
            small = small.narrow(dim, 0, 1)
    if not _apart(small):
        return gradient.clone()
    laid_out = torch.empty_strided(small.shape, small.stride(), dtype=small.dtype, device=small.device)
    return laid_out.copy_(small).expand_as(gradient)


def _apart(tensor: Tensor) -> bool:
    """Whether no two values share a place in memory, as far as the strides alone tell."""
    reach = 0
    for stride, size in sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1):
        if stride <= reach:
            return False
        reach += stride * (size - 1)
    return True


class _Gather(torch.autograd.Function):
    """The identity, whose backward ends here and adds to a sum.

    Instead of a leaf's `.grad`: autograd may put the same memory into the `.grad` of two leaves, where adding in place to one
    of them changes the other.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, gathered: _Gathered, rows: Sequence[int] | None) -> Tensor:
        ctx.gathered, ctx.rows = gathered, rows
        return part.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ctx.gathered.add(gradients[0], ctx.rows)
        return None, None, None


class _Inject(torch.autograd.Function):
    """A scalar whose backward pops a gathered gradient and sends it to `tensor`.

    Popped, not captured: a gradient handed to `torch.autograd.backward` directly would be pinned by the caller until the whole
    backward is over.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, gathered: _Gathered) -> Tensor:
        ctx.gathered = gathered
        return tensor.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *unused: Tensor) -> tuple[Tensor, None]:
        return ctx.gathered.pop(), None
