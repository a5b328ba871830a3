"""A graph measured into a chain on fake tensors, where nothing is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ubertrain.engine.branches import without_autocast
from ubertrain.engine.graph import Graph, batch_size
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.measuring.alone import Form, gradient_forms
from ubertrain.measuring.branch_cost import BranchMeter
from ubertrain.measuring.fakes import faked
from ubertrain.measuring.roofline import op_cost, unit_of
from ubertrain.measuring.stage_cost import StageMeter
from ubertrain.measuring.tied import with_tied
from ubertrain.measuring.work import OpCost, Work
from ubertrain.planning.chain import Chain, StageCost


def estimate(graph: Graph, images: Any, targets: Mapping[str, Any], *, cost: str = "auto", rounding: int = 1) -> Chain:
    """Bytes and work of every stage and branch of one step, on tensors that have a shape and no memory.

    Args:
        graph: is not touched. It may be on the "meta" device, and need not be where it will be trained.
        images: a batch, tensors of its shape and dtype without memory, or its shape, like (8, 3, 512, 512).
        targets: labels of the batch, likewise; their rows decide which branches run.
        cost: what work is counted in: "flops", "auto" for seconds by a quick calibration of the graph's device, or the name of
            a device in the table, such as "h100", for seconds there.
        rounding: each storage counts as its bytes rounded up to a multiple of this: 512 is what CUDA's allocator hands out.

    Raises:
        ConfigError: unknown `cost`.
        ScheduleError: the shapes of a head or loss depend on values.
        TaskError: labels that do not fit the graph.
    """
    device = next(graph.parameters(), torch.empty(0)).device
    of_op, unit = op_cost(cost, device), unit_of(cost)
    with faked(graph, images, targets) as (copied, batch, labels):
        return measure(copied, batch, labels, of_op, unit, rounding)


def measure(graph: Graph, images: Any, labels: Mapping[str, Labels], cost: OpCost, unit: str, rounding: int) -> Chain:
    """The chain of one step on the tensors given. What a run moves, buffers and random numbers, moves.

    Args:
        graph: its stages and branches are run one by one.
        images: the batch.
        labels: of the batch.
        cost: of one operation.
        unit: of `cost`.
        rounding: see `estimate`.
    """
    labelled = graph.labelled(images, labels)
    names = graph.needed(labelled)
    tapped = {tap for task in labelled for tap in graph.taps[task]}
    plain = _Plain(graph, images, labels, cost, rounding)
    meter = StageMeter(images, cost, rounding, plain.gradients)
    stages, values = [], {}
    for name in names:
        stages.append(meter.measure(name, graph.stage(name)))
        if name in tapped:
            values[name] = meter.value
    stages = with_tied(_with_passing(stages, {names.index(tap) for tap in tapped}), [graph.stage(name) for name in names])
    branches = BranchMeter(graph, values, batch_size(images), cost, rounding)
    return Chain(
        stages=tuple(stages),
        unused=graph.stage_names[len(names) :],
        branches=tuple(branches.measure(task, share) for task, share in labelled.items()),
        order=tuple(graph.branches),
        unit=unit,
        plain_peak=plain.peak,
        plain_work=plain.work,
        batch=batch_size(images),
    )


class _Plain:
    """One step of plain autograd.

    Attributes:
        peak, work: of the step.
        gradients: stage -> the forms of the gradients of its output, None for a tensor that got none.
    """

    def __init__(self, graph: Graph, images: Any, labels: Mapping[str, Labels], cost: OpCost, rounding: int) -> None:
        self.gradients: dict[str, list[Form | None]] = {}
        torch.clear_autocast_cache()
        hooks = [graph.stage(name).register_forward_hook(partial(self._listen, name)) for name in graph.stage_names]
        with LiveBytes(rounding) as meter, Work(cost) as work:
            total = sum(graph.losses(images, labels).values())
            if isinstance(total, Tensor) and total.requires_grad:
                with without_autocast(total.device.type):
                    total.backward()
            del total
        for hook in hooks:
            hook.remove()
        graph.zero_grad(set_to_none=True)
        self.peak, self.work = meter.peak, work.total

    def _listen(self, name: str, stage: nn.Module, inputs: Any, output: Any) -> None:
        self.gradients[name] = gradient_forms(output)


def _with_passing(stages: Sequence[StageCost], tapped: Collection[int]) -> list[StageCost]:
    """The stages, the outputs of frozen ones counted only while the next one runs if that is frozen too: no one keeps them."""
    changed = list(stages)
    for number in range(len(stages) - 1):
        stage, following = changed[number], changed[number + 1]
        own = sum(size for maker, size in stage.output if maker == number)
        if number in tapped or stage.gradient or following.gradient or stage.products or own > stage.whole.kept:
            continue
        if any(maker <= number for later in stages[number + 1 :] for maker, _ in later.output):
            continue  # it is handed on
        changed[number] = replace(stage, whole=replace(stage.whole, kept=stage.whole.kept - own))
        whole = replace(following.whole, forward_peak=following.whole.forward_peak + own)
        changed[number + 1] = replace(following, whole=whole, pass_peak=following.pass_peak + own)
    return changed
