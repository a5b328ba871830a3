"""One stage run by itself, as if the trunk were around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.engine.branches import without_autocast
from ubertrain.engine.spans import SpanRunner
from ubertrain.planning.schedule import Item


class Form(NamedTuple):
    """How a tensor lies in memory."""

    size: Sequence[int]
    stride: Sequence[int]
    dtype: torch.dtype
    device: torch.device


def form_of(tensor: Tensor) -> Form:
    """The form of a tensor."""
    return Form(tensor.size(), tensor.stride(), tensor.dtype, tensor.device)


class Alone:
    """A forward and a backward of an item that holds a single stage, from a value that exists already.

    Gradients are wanted where the value wants them; the gradient of the output is handed over as the engine does it, and that
    of the input stays. So nothing is alive in between but what the stage needs.

    Args:
        item: the stage's name, as products, or in a span.
        stage: its module.
        value: its input, detached.
        forms: of the gradients of its output, one for each tensor; left out: like the tensors.
        linked: the input has a graph of its own, into which its gradient goes.

    Attributes:
        differentiable: after the forward, which tensors of the output want gradients.
    """

    def __init__(
        self, item: Item, stage: nn.Module, value: Any, forms: Sequence[Form | None] = (), *, linked: bool = False
    ) -> None:
        self._linked = linked
        self._forms = forms
        self._item = item
        self._stage = stage
        self._value = value
        self._received: list[Tensor] = []
        self._output: Any = None
        self._met: Any = None
        self._roots: list[Tensor] = []
        self.differentiable: list[bool] = []

    def forward(self, *, meets: bool = False) -> None:
        """Run the item.

        Args:
            meets: whether the gradient of the input will meet a sum that is there already, as at a tap.
        """
        torch.clear_autocast_cache()
        inputs = self._value if self._linked else receiving(self._value, self._received)
        output = SpanRunner(lambda name: self._stage, lambda name, value: value).run((self._item,), inputs)
        self.differentiable = [leaf.requires_grad for leaf in tensors(output)]
        self._output = output
        self._met = inputs if meets else ()

    def release(self) -> None:
        """Let go of the output, of which only the graph is left."""
        ends = (*tensors(self._output), *tensors(self._met))
        forms = (*self._forms, *[None] * (len(ends) - len(self._forms)))
        self._roots = [
            _Send.apply(end, form or form_of(end)) for end, form in zip(ends, forms, strict=True) if end.requires_grad
        ]
        self._output = self._met = None

    def backward(self) -> bool:
        """Run the backward, if the output wants gradients; returns whether it does."""
        if any(self.differentiable):
            with without_autocast(self._roots[0].device.type):
                torch.autograd.backward(self._roots)
        self._roots = []
        return any(self.differentiable)


def receiving(value: Any, received: list[Tensor]) -> Any:
    """The value with a graph that puts gradients into a list."""

    def one(leaf: Tensor) -> Tensor:
        return _Receive.apply(leaf.detach().requires_grad_(), received) if leaf.requires_grad else leaf

    return pytree.tree_map_only(Tensor, one, value)


def gradient_forms(value: Any) -> list[Form | None]:
    """The forms of the gradients that the tensors in `value` will get, as they come; None for a tensor that got none."""
    forms: list[Form | None] = [None] * len(tensors(value))

    def note(place: int, gradient: Tensor) -> None:
        forms[place] = form_of(gradient)

    for place, leaf in enumerate(tensors(value)):
        if leaf.requires_grad:
            leaf.register_hook(partial(note, place))
    return forms


def output_of(stage: nn.Module, value: Any, differentiable: Sequence[bool]) -> Any:
    """The stage's output as a value that exists already; what the stage hands on stays the same storage."""
    with torch.no_grad():
        output = stage(pytree.tree_map_only(Tensor, Tensor.detach, value))
    flags = iter(differentiable)
    return pytree.tree_map_only(Tensor, lambda leaf: leaf.detach().requires_grad_(next(flags)), output)


def tensors(value: Any) -> list[Tensor]:
    """The tensors in any pytree."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


class _Receive(torch.autograd.Function):
    """The identity at a stage's input: a gradient that comes in stays alive, as if the stage below waited for it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, received: list[Tensor]) -> Tensor:
        ctx.received = received
        return tensor.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        ctx.received.append(gradients[0])
        return None, None


class _Send(torch.autograd.Function):
    """A scalar whose backward makes a gradient for a tensor, and keeps no hold of it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, form: Form) -> Tensor:
        ctx.form = form
        return tensor.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *unused: Tensor) -> tuple[Tensor, None]:
        form = ctx.form
        return torch.empty_strided(form.size, form.stride, dtype=form.dtype, device=form.device), None
