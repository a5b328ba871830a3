"""A graph measured into a chain with the seconds that its stages and branches really take."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.engine.branches import run_branch
from ubertrain.engine.graph import Graph, batch_size
from ubertrain.engine.narrow import NarrowBranch
from ubertrain.engine.taps import Tap
from ubertrain.measuring.alone import Alone, output_of, tensors
from ubertrain.measuring.estimate import estimate
from ubertrain.planning.chain import Chain, HeadCost, StageCost
from ubertrain.planning.schedule import BranchRun, Item, Products, Span


def profile(graph: Graph, images: Any, targets: Mapping[str, Any], *, repeats: int = 3, rounding: int = 1) -> Chain:
    """As `estimate`, with measured seconds: every stage and branch is run by itself on the graph's device.

    Args:
        graph: is copied; its buffers, gradients and random numbers stay.
        images: a real batch on the graph's device.
        targets: real labels.
        repeats: runs of each, the median of which counts, after one to warm up.
        rounding: see `estimate`.

    Raises:
        ScheduleError, TaskError: as `estimate`.
    """
    chain = estimate(graph, images, targets, cost="flops", rounding=rounding)
    graph, clock = copy.deepcopy(graph), _Clock(images, repeats)
    labelled = graph.labelled(images, targets)
    tapped = {tap for task in labelled for tap in graph.taps[task]}
    stages, values, value = [], {}, images
    with torch.random.fork_rng():
        for cost in chain.stages:
            stage = graph.stage(cost.name)
            stages.append(_timed(clock, cost, stage, value))
            value = _next(cost.name, stage, value)
            if cost.name in tapped:
                values[cost.name] = value
        batch, branches = batch_size(images), []
        for branch in chain.branches:
            taps: list[Tap] = []
            for tap in graph.taps[branch.task]:
                taps.append(Tap(values[tap], taps))
            run, share = BranchRun(branch.task), labelled[branch.task]
            seconds = clock.median(partial(run_branch, graph, run, share, taps, batch, None))
            narrow = branch.narrow
            if narrow is not None:
                held = NarrowBranch(graph, branch.task, share, batch)
                narrow = replace(
                    narrow, work=clock.median(partial(_hold, held, [values[tap] for tap in graph.taps[branch.task]]))
                )
            levels = pytree.tree_map_only(Tensor, _leaf, [tap.read(share.rows, batch) for tap in taps])
            heads = _timed_heads(clock, branch.heads, graph.heads[branch.task], levels)
            branches.append(replace(branch, work=seconds, narrow=narrow, heads=heads))
    plain = sum(stage.forward + stage.whole.backward for stage in stages) + sum(branch.work for branch in branches)
    return replace(chain, stages=tuple(stages), branches=tuple(branches), unit="seconds", plain_work=plain)


def _hold(branch: NarrowBranch, levels: Sequence[Any]) -> None:
    """What a narrow branch does more than another."""
    for place, level in enumerate(levels):
        branch.hold(place, level)
    branch.forget()


def _timed(clock: _Clock, cost: StageCost, stage: nn.Module, value: Any) -> StageCost:
    """The stage's cost with seconds for its work."""
    forward, backward = clock.both(cost.name, stage, value)
    _, recomputed = clock.both(Span((cost.name,)), stage, value)
    products = cost.products
    if products is not None:
        _, replayed = clock.both(Products(cost.name), stage, value)
        products = replace(products, backward=max(replayed, backward))
    whole = replace(cost.whole, backward=backward)
    again = min(max(recomputed - backward, 0.0), forward)
    return replace(cost, whole=whole, products=products, forward=forward, partial=again)


def _timed_heads(clock: _Clock, heads: Sequence[HeadCost], head: nn.Module, levels: Any) -> tuple[HeadCost, ...]:
    """A head's costs with seconds for the work of its stages on all rows."""
    timed, value = [], levels
    for cost in heads[0].stages if heads else ():
        stage = head.get_submodule(cost.name)
        timed.append(_timed(clock, cost, stage, value))
        value = _next(cost.name, stage, value)
    return tuple(
        replace(cost, stages=tuple(map(_as_long, cost.stages, timed)), first=_as_long(cost.first, timed[0])) for cost in heads
    )


def _as_long(cost: StageCost, timed: StageCost) -> StageCost:
    """A stage's bytes with the work of another measure of it."""
    products = cost.products
    if products is not None:
        products = replace(products, backward=(timed.products or timed.whole).backward)
    whole = replace(cost.whole, backward=timed.whole.backward)
    return replace(cost, whole=whole, products=products, forward=timed.forward, partial=timed.partial)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _next(name: str, stage: nn.Module, value: Any) -> Any:
    alone = Alone(name, stage, value)
    alone.forward()
    return output_of(stage, value, alone.differentiable)


class _Clock:
    """Median seconds on the devices that a batch is on."""

    def __init__(self, images: Any, repeats: int) -> None:
        self._cuda = any(leaf.is_cuda for leaf in tensors(images))
        self._repeats = repeats

    def both(self, item: Item, stage: nn.Module, value: Any) -> tuple[float, float]:
        """Seconds of the forward and of the backward of an item that holds one stage."""
        times: list[tuple[float, float]] = []
        for _ in range(self._repeats + 1):
            alone = Alone(item, stage, value)
            forward = self._seconds(alone.forward)
            alone.release()
            times.append((forward, self._seconds(alone.backward)))
        return statistics.median(t[0] for t in times[1:]), statistics.median(t[1] for t in times[1:])

    def median(self, run: Callable[[], Any]) -> float:
        """Seconds of any call."""
        return statistics.median([self._seconds(run) for _ in range(self._repeats + 1)][1:])

    def _seconds(self, run: Callable[[], Any]) -> float:
        self._wait()
        start = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()
