"""A graph measured into a chain, without computing or allocating anything."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from ubertrain.engine.branch_cost import BranchMeter
from ubertrain.engine.fakes import fake, fake_copy, fake_labels
from ubertrain.engine.graph import Graph, Labelled, batch_size
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.engine.stage_cost import StageMeter
from ubertrain.engine.work import OpCost, Work, flops
from ubertrain.planning.chain import Chain


def estimate(graph: Graph, images: Any, targets: Mapping[str, Any], *, cost: str = "flops", rounding: int = 1) -> Chain:
    """Bytes and work of every stage and branch of one step, on tensors that have a shape and no memory."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.random.fork_rng(devices=[]):
        graph, images = fake_copy(graph, mode), fake(images, mode)
        labels = {task: fake_labels(Labels.of(target), mode) for task, target in targets.items()}
        return measure(graph, images, labels, flops, "FLOPs", rounding)


def measure(graph: Graph, images: Any, labels: Mapping[str, Labels], cost: OpCost, unit: str, rounding: int) -> Chain:
    """The chain of one step on the tensors given; buffers and random numbers of the graph move."""
    labelled = graph.labelled(images, labels)
    names = graph.needed(labelled)
    meter = StageMeter(images, cost, rounding)
    stages, values = [], {}
    tapped = {tap for task in labelled for tap in graph.taps[task]}
    for name in names:
        stages.append(meter.measure(name, graph.stage(name)))
        if name in tapped:
            values[name] = meter.value
    branches = BranchMeter(graph, values, batch_size(images), cost, rounding)
    plain_peak, plain_work = _plain(graph, images, labels, cost, rounding)
    return Chain(
        stages=tuple(stages),
        unused=graph.stage_names[len(names) :],
        branches=tuple(branches.measure(task, share) for task, share in labelled.items()),
        order=tuple(graph.branches),
        unit=unit,
        plain_peak=plain_peak,
        plain_work=plain_work,
        batch=batch_size(images),
    )


def _plain(graph: Graph, images: Any, labels: Mapping[str, Labels], cost: OpCost, rounding: int) -> tuple[int, float]:
    """Peak bytes and work of plain autograd."""
    torch.clear_autocast_cache()
    with LiveBytes(rounding) as meter, Work(cost) as work:
        total = sum(graph.losses(images, labels).values())
        if isinstance(total, Tensor) and total.requires_grad:
            total.backward()
        del total
    return meter.peak, work.total
