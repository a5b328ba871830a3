"""The stages of a head measured one by one, as those of a trunk are, and the loss that ends them; on real or fake tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.engine.branches import backward_from
from ubertrain.engine.graph import Graph, Labelled, term
from ubertrain.engine.heads import head_stages
from ubertrain.engine.meter import LiveBytes
from ubertrain.engine.spans import SpanRunner
from ubertrain.engine.taps import Tap, check_tap
from ubertrain.measuring.alone import Alone, Form, form_of, gradient_forms, receiving, tensors
from ubertrain.measuring.stage_cost import StageMeter
from ubertrain.measuring.tied import with_tied
from ubertrain.measuring.work import OpCost, Work
from ubertrain.planning.chain import HeadCost, Keeping, StageCost
from ubertrain.planning.schedule import Item, Products


class HeadMeter:
    """Measures the head of one task.

    Args:
        graph: holds the head, which has stages.
        task: its name.
        sums: what the branch reads, in its order; the gradients of the levels have been summed there before.
        taps: makes the same, for which no gradient has been summed yet.
        batch: images.
        cost: of one operation.
        rounding: each storage counts as its bytes rounded up to a multiple of this.
    """

    def __init__(
        self,
        graph: Graph,
        task: str,
        sums: Sequence[Tap],
        taps: Callable[[], Sequence[Tap]],
        batch: int,
        cost: OpCost,
        rounding: int,
    ) -> None:
        self._head, self._branch, self._task = graph.heads[task], graph.branches[task], task
        self._names = head_stages(graph, task)
        self._sums, self._taps, self._batch, self._cost, self._rounding = sums, taps, batch, cost, rounding

    def measure(self, share: Labelled, *, losses: int = 0, fresh: bool) -> HeadCost:
        """The head on the rows of a share.

        Args:
            share: the labels and rows.
            losses: bytes of the losses of other rows.
            fresh: whether to measure, too, what the first stage needs where it makes the sums of gradients; and how the
                gradients between stages lie in memory, which otherwise are taken to be written out.

        Raises:
            TaskError: a stage gives something in which tensors could hide.
        """
        forms = self._listen(share) if fresh else {}
        read, make = partial(self._read, share, self._sums), lambda: self._read(share, self._taps())
        with LiveBytes(self._rounding) as meter:
            levels = read()
            copied = meter.live
        meter_of = partial(_HeadStages, levels, self._cost, self._rounding, forms)
        stages, inputs = meter_of(read), levels
        costs = []
        for name in self._names:
            inputs = stages.value
            costs.append(stages.measure(name, self._head.get_submodule(name)))
        first = meter_of(make).measure(self._names[0], self._head.get_submodule(self._names[0])) if fresh else costs[0]
        single = len(costs) == 1
        loss_peak, left, work = self._loss(share, stages.value)
        costs[-1] = self._ended(share, costs[-1], loss_peak, left, read if single else lambda: receiving(inputs, []))
        if single:
            first = self._ended(share, first, loss_peak, left, make) if fresh else costs[0]
        modules = [self._head.get_submodule(name) for name in self._names]
        (first, *_), costs = with_tied([first, *costs[1:]], modules), with_tied(costs, modules)
        return HeadCost(copied + losses, tuple(costs), first, loss_peak, left, work)

    def first(self, share: Labelled) -> StageCost:
        """What the first of several stages needs where it makes the sums of gradients."""
        levels, name = self._read(share, self._taps()), self._names[0]
        stages = _HeadStages(levels, self._cost, self._rounding, {}, lambda: self._read(share, self._taps()))
        return stages.measure(name, self._head.get_submodule(name))

    def _read(self, share: Labelled, taps: Sequence[Tap]) -> list[Any]:
        return [tap.read(share.rows, self._batch) for tap in taps]

    def _listen(self, share: Labelled) -> dict[str, Sequence[Form | None]]:
        """Which gradients the stages get in a run of the branch."""
        forms: dict[str, Sequence[Form | None]] = {}

        def on_stage(name: str, value: Any) -> None:
            check_tap(f"{self._task}: {name}", value)
            forms[name] = gradient_forms(value)

        runner = SpanRunner(self._head.get_submodule, on_stage)
        self._loss_and_backward(share, runner.run(self._names, self._read(share, self._sums)))
        return forms

    def _ended(self, share: Labelled, last: StageCost, loss: int, left: int, inputs: Callable[[], Any]) -> StageCost:
        """The last stage with what the loss needs beside what is kept of it; its output is the loss's."""
        whole = _ended(last.whole, self._ending(share, last.name, inputs()), loss, left)
        products = None
        if last.products is not None:
            products = _ended(last.products, self._ending(share, Products(last.name), inputs()), loss, left)
        return replace(last, output=(), whole=whole, products=products)

    def _ending(self, share: Labelled, item: Item, inputs: Any) -> int:
        """Most bytes from the forward of the last stage to its backward."""
        torch.clear_autocast_cache()
        runner = SpanRunner(self._head.get_submodule, lambda name, value: None)
        with LiveBytes(self._rounding) as meter:
            self._loss_and_backward(share, runner.run((item,), inputs))
        return meter.peak

    def _loss(self, share: Labelled, prediction: Any) -> tuple[int, int, float]:
        """Most bytes of the loss by itself, what is left after it beside the gradient of the prediction, and its work."""
        received: list[Tensor] = []
        device = next((leaf.device for leaf in tensors(prediction)), None)
        start = torch.zeros((), device=device, requires_grad=True)
        torch.clear_autocast_cache()
        with LiveBytes(self._rounding) as meter, Work(self._cost) as work:
            rest = self._loss_and_backward(share, pytree.tree_map_only(Tensor, partial(_made, start, received), prediction))
            left = meter.live
            del rest
        storages = {gradient.untyped_storage()._cdata: gradient.untyped_storage().nbytes() for gradient in received}
        rounded = sum(-(-size // self._rounding) * self._rounding for size in storages.values())
        return meter.peak, max(0, left - rounded), work.total

    def _loss_and_backward(self, share: Labelled, prediction: Any) -> tuple[Tensor, Tensor]:
        """What is alive until the end of the branch: losses, one for each row and of all together."""
        assert self._branch.loss is not None
        given = [prediction]
        del prediction
        values = self._branch.loss(given.pop(), share.labels.value)
        loss = backward_from(term(values, self._branch.weight, share.divisor), None)
        for module in (self._head, self._branch.loss):
            if isinstance(module, nn.Module):
                module.zero_grad(set_to_none=True)
        return values, loss


def larger(one: StageCost, other: StageCost) -> StageCost:
    """A stage with the larger needs of two during its backward."""
    products = one.products
    if products is not None and other.products is not None:
        products = replace(products, backward_peak=max(products.backward_peak, other.products.backward_peak))
    whole = replace(one.whole, backward_peak=max(one.whole.backward_peak, other.whole.backward_peak))
    return replace(one, whole=whole, products=products, tail_peak=max(one.tail_peak, other.tail_peak))


class _HeadStages(StageMeter):
    """Measures stages the first of which sends its gradients into taps; `read` gives its input each time that it runs."""

    def __init__(
        self, levels: Any, cost: OpCost, rounding: int, forms: Mapping[str, Sequence[Form | None]], read: Callable[[], Any]
    ) -> None:
        super().__init__(levels, cost, rounding, forms, meets=False)
        self._read = read

    def _alone(self, item: Item, stage: nn.Module, value: Any, forms: Sequence[Form | None]) -> Alone:
        first = len(self._values) == 1
        return Alone(item, stage, self._read() if first else value, forms, linked=first)


def _ended(way: Keeping, need: int, loss: int, left: int) -> Keeping:
    """A way to keep the last stage that needs `need` bytes until the end of its backward."""
    return replace(
        way,
        kept=max(0, need - loss),
        forward_peak=min(way.forward_peak, need),
        backward_peak=max(0, min(way.backward_peak, need - left)),
    )


def _made(start: Tensor, received: list[Tensor], like: Tensor) -> Tensor:
    if not like.requires_grad:
        return torch.empty_like(like)
    return _Make.apply(start, form_of(like), received)


class _Make(torch.autograd.Function):
    """A tensor that nothing holds but who uses it; its gradient stays alive, as if the stage below waited for it."""

    @staticmethod
    def forward(ctx: Any, start: Tensor, form: Form, received: list[Tensor]) -> Tensor:
        ctx.received = received
        return torch.empty_strided(form.size, form.stride, dtype=form.dtype, device=form.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ctx.received.append(gradients[0])
        return None, None, None
