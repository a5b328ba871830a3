"""A stage measured by itself: what it keeps, needs and costs, from three runs alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.engine.branches import without_autocast
from ubertrain.engine.meter import LiveBytes
from ubertrain.engine.spans import SpanRunner
from ubertrain.engine.work import OpCost, Work
from ubertrain.errors import ScheduleError
from ubertrain.planning.chain import Keeping, StageCost
from ubertrain.planning.schedule import Item, Products, Span


class StageMeter:
    """Measures the stages of a trunk one after the other, on real or fake tensors.

    Every run starts from a value that exists already, with gradients wanted where the trunk's own wants them, and is handed the
    gradient of its output as the engine hands it over: nothing is alive but what the stage needs.

    Args:
        images: the first stage's input.
        cost: of one operation.
        rounding: each storage counts as its bytes rounded up to a multiple of this.
    """

    def __init__(self, images: Any, cost: OpCost, rounding: int = 1) -> None:
        self._cost = cost
        self._rounding = rounding
        self._makers = {_key(leaf): -1 for leaf in _tensors(images)}
        self._values: list[Any] = [images]  # storages are told apart by address, so none may be freed in between

    def measure(self, name: str, stage: nn.Module) -> StageCost:
        """The costs of the next stage of the trunk."""
        number, value = len(self._values) - 1, self._values[-1]
        span = Span((name,))
        kept, passed = self._run(name, stage, value), self._run(span, stage, value)
        met = self._run(name, stage, value, meets=True), self._run(span, stage, value, meets=True)
        output = _output(stage, value, kept.differentiable)
        self._values.append(output)
        made = {_key(leaf): self._size(leaf) for leaf in _tensors(output)}
        storages = tuple((self._makers.setdefault(key, number), size) for key, size in made.items())
        own = sum(size for maker, size in storages if maker == number)
        noted = max(0, passed.way.kept - own)
        return StageCost(
            name=name,
            output=storages,
            gradient=sum(self._size(leaf) for leaf in _tensors(output) if leaf.requires_grad),
            whole=kept.way,
            products=self._products(name, stage, value, kept.way),
            pass_peak=passed.way.forward_peak,
            noted=noted,
            pending=max(0, passed.pending - 2 * noted),
            tail_peak=passed.way.backward_peak,
            meeting=max(0, *(a.way.backward_peak - b.way.backward_peak for a, b in zip(met, (kept, passed), strict=True))),
            forward=kept.forward,
            partial=max(0.0, passed.way.backward - kept.way.backward),
        )

    @property
    def value(self) -> Any:
        """The output of the last stage that was measured, cut off from its graph."""
        return self._values[-1]

    def _products(self, name: str, stage: nn.Module, value: Any, whole: Keeping) -> Keeping | None:
        try:
            way = self._run(Products(name), stage, value).way
        except ScheduleError:
            return None
        return way if way.kept < whole.kept else None

    def _size(self, tensor: Tensor) -> int:
        return -(-tensor.untyped_storage().nbytes() // self._rounding) * self._rounding

    def _run(self, item: Item, stage: nn.Module, value: Any, *, meets: bool = False) -> _Run:
        """One forward and backward of an item that holds this stage alone.

        Args:
            meets: whether gradients of the input meet a sum that is there already. Its bytes are left out.
        """
        torch.clear_autocast_cache()
        starts: list[int] = []
        with LiveBytes(self._rounding) as meter, Work(self._cost) as work:
            probe = stage.register_forward_pre_hook(lambda *unused: starts.append(meter.live))
            received: list[Tensor] = []
            inputs = pytree.tree_map_only(Tensor, lambda leaf: _receiving(leaf, received), value)
            output = SpanRunner(lambda name: stage, lambda name, value: None).run((item,), inputs)
            tapped = [leaf for leaf in _tensors(inputs) if leaf.requires_grad] if meets else []
            del inputs
            wanted = [leaf.requires_grad for leaf in _tensors(output)]
            kept, forward_peak, forward = meter.live, meter.peak, work.total
            existing = sum(self._size(leaf) for leaf in tapped)
            roots = [_Send.apply(leaf) for leaf in _tensors(output) if leaf.requires_grad]
            sums = [_Send.apply(leaf) for leaf in tapped]
            del output, tapped
            meter.peak = meter.live
            if roots:
                with without_autocast(roots[0].device.type):
                    torch.autograd.backward([*roots, *sums])
            probe.remove()
        way = Keeping(kept, forward_peak, meter.peak - existing if roots else 0, work.total - forward)
        return _Run(way, forward, starts[1] if len(starts) > 1 else 0, wanted)


@dataclass(frozen=True)
class _Run:
    """What one run showed: the way of keeping, work of its forward, bytes when it ran again, which outputs want gradients."""

    way: Keeping
    forward: float
    pending: int
    differentiable: list[bool]


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
    """A scalar whose backward makes the gradient of a stage's output, and keeps no hold of it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.form = tensor.size(), tensor.stride(), tensor.dtype, tensor.device
        return tensor.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *unused: Tensor) -> Tensor:
        size, stride, dtype, device = ctx.form
        return torch.empty_strided(size, stride, dtype=dtype, device=device).zero_()


def _receiving(leaf: Tensor, received: list[Tensor]) -> Tensor:
    return _Receive.apply(leaf.detach().requires_grad_(), received) if leaf.requires_grad else leaf


def _output(stage: nn.Module, value: Any, differentiable: list[bool]) -> Any:
    """The stage's output as a value that is alive already; what the stage hands on is the same storage still."""
    with torch.no_grad():
        output = stage(pytree.tree_map_only(Tensor, Tensor.detach, value))
    flags = iter(differentiable)
    return pytree.tree_map_only(Tensor, lambda leaf: leaf.detach().requires_grad_(next(flags)), output)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
