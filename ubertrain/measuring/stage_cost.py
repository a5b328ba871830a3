"""A stage measured by itself: what it keeps, needs and costs, from a few runs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ubertrain.engine.inplace import begins_in_place
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ScheduleError
from ubertrain.measuring.alone import Alone, Form, output_of, tensors
from ubertrain.measuring.work import OpCost, Work
from ubertrain.planning.chain import Keeping, StageCost
from ubertrain.planning.schedule import Item, Products, Schedule, Span


class StageMeter:
    """Measures the stages of a trunk one after the other, on real or fake tensors.

    Args:
        images: the first stage's input.
        cost: of one operation.
        rounding: each storage counts as its bytes rounded up to a multiple of this.
        gradients: stage -> the forms of the gradients of its output, as far as they are known.
        meets: whether gradients may meet sums, as at taps.
    """

    def __init__(
        self,
        images: Any,
        cost: OpCost,
        rounding: int = 1,
        gradients: Mapping[str, Sequence[Form | None]] | None = None,
        *,
        meets: bool = True,
    ) -> None:
        self._meets = meets
        self._gradients = gradients or {}
        self._cost = cost
        self._rounding = rounding
        self._makers = {_key(leaf): -1 for leaf in tensors(images)}
        self._values: list[Any] = [images]  # storages are told apart by address, so none may be freed in between

    @property
    def value(self) -> Any:
        """The output of the last stage that was measured, cut off from its graph."""
        return self._values[-1]

    def measure(self, name: str, stage: nn.Module) -> StageCost:
        """The costs of the next stage of the trunk."""
        number, value, span = len(self._values) - 1, self._values[-1], Span((name,))
        kept, passed = self._run(name, stage, value), self._run(span, stage, value)
        output = output_of(stage, value, kept.differentiable)
        self._values.append(output)
        made = {_key(leaf): self._size(leaf) for leaf in tensors(output)}
        makers = {key: self._makers.setdefault(key, number) for key in made}
        copies = begins_in_place(stage)  # a span that begins with it hands on what is its own
        clone = sum(self._size(leaf) for leaf in tensors(value)) if copies else 0
        storages = tuple((number if copies else makers[key], size) for key, size in made.items())
        own = sum(size for maker, size in storages if maker == number)
        noted = max(passed.way.kept - own, self._suspected(stage))
        return StageCost(
            name=name,
            output=storages,
            gradient=sum(self._size(leaf) for leaf in tensors(output) if leaf.requires_grad),
            whole=kept.way,
            products=self._products(name, stage, value, kept.way),
            pass_peak=max(0, passed.way.forward_peak - clone),
            noted=noted,
            pending=max(0, passed.pending - 2 * noted),
            tail_peak=max(kept.way.backward_peak, passed.way.backward_peak - clone),
            meeting=max(0, *(self._meeting(item, stage, value, run) for item, run in ((name, kept), (span, passed)))),
            forward=kept.forward,
            partial=max(0.0, passed.way.backward - kept.way.backward),
            clone=clone,
        )

    def _meeting(self, item: Item, stage: nn.Module, value: Any, without: _Run) -> int:
        """What the backward needs more where the gradient of the input meets a sum."""
        return self._run(item, stage, value, meets=True).way.backward_peak - without.way.backward_peak if self._meets else 0

    def _alone(self, item: Item, stage: nn.Module, value: Any, forms: Sequence[Form | None]) -> Alone:
        return Alone(item, stage, value, forms)

    def _products(self, name: str, stage: nn.Module, value: Any, whole: Keeping) -> Keeping | None:
        try:
            way = self._run(Products(name), stage, value).way
        except ScheduleError:
            return None
        return way if way.kept < whole.kept else None

    def _suspected(self, stage: nn.Module) -> int:
        """Bytes of the buffers that a span copies; where the stage is frozen it holds them for others in the same span."""
        modules = (module for module in stage.modules() if module.training)
        return sum(self._size(buffer) for module in modules for buffer in module.buffers(recurse=False))

    def _size(self, tensor: Tensor) -> int:
        return -(-tensor.untyped_storage().nbytes() // self._rounding) * self._rounding

    def _run(self, item: Item, stage: nn.Module, value: Any, *, meets: bool = False) -> _Run:
        """One forward and backward; the sum that is met, if any, is left out of the bytes."""
        starts: list[int] = []
        alone = self._alone(item, stage, value, self._gradients.get(Schedule((item,)).stages[0], ()))
        existing = sum(self._size(leaf) for leaf in tensors(value) if leaf.requires_grad) if meets else 0
        with LiveBytes(self._rounding) as meter, Work(self._cost) as work:
            probe = stage.register_forward_pre_hook(lambda *unused: starts.append(meter.live))
            alone.forward(meets=meets)
            kept, forward_peak, forward = meter.live, meter.peak, work.total
            alone.release()
            meter.peak = meter.live
            ran = alone.backward()
            probe.remove()
        stage.zero_grad(set_to_none=True)
        way = Keeping(kept, forward_peak, meter.peak - existing if ran else 0, work.total - forward)
        return _Run(way, forward, starts[1] if len(starts) > 1 else 0, alone.differentiable)


@dataclass(frozen=True)
class _Run:
    """What one run showed: the way of keeping, work of its forward, bytes when it ran again, which outputs want gradients."""

    way: Keeping
    forward: float
    pending: int
    differentiable: list[bool]


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
