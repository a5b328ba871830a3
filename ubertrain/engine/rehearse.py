"""The exact peak of a step, known before it is run: the same engine on tensors that have a shape but no memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils import _pytree as pytree

from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.engine.watch import Watch
from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import Schedule


def rehearse(graph: Graph, schedule: Schedule, images: Any, targets: Mapping[str, Any], *, rounding: int = 1) -> int:
    """Peak bytes of one step as `LiveBytes` would count them, without computing or allocating it.

    Args:
        graph: is not touched.
        schedule: the schedule to try.
        images: a batch, or tensors of its shape, dtype and device.
        targets: labels of the batch; their rows decide which branches run.
        rounding: see `LiveBytes`.

    Raises:
        ScheduleError: the schedule does not fit the graph, or the shapes of a head or loss depend on values.
    """
    meter = LiveBytes(rounding)
    run_fake_step(graph, schedule, images, targets, meter, Watch())
    return meter.peak


def run_fake_step(
    graph: Graph, schedule: Schedule, images: Any, targets: Mapping[str, Any], meter: LiveBytes, watch: Watch
) -> None:
    """One step of the engine on fake tensors under `meter`; raises as `rehearse`."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.random.fork_rng(devices=[]):
        engine = Engine(_fake_copy(graph, mode), schedule, watch=watch)
        images = _fake(images, mode)
        labels = {task: _fake_labels(Labels.of(target), mode) for task, target in targets.items()}
        with meter:
            try:
                engine.forward_backward(images, labels)
            except (DataDependentOutputException, DynamicOutputShapeException) as error:
                raise ScheduleError(
                    f"this graph cannot be rehearsed: {error.func} needs values, not only shapes. Give it a fixed size (top-k, "
                    "weights instead of a boolean index), or measure a real step under LiveBytes"
                ) from error


def _fake_copy(graph: Graph, mode: FakeTensorMode) -> Graph:
    """The graph with fake parameters and buffers, sharing what is shared in the original."""
    fakes: dict[int, Any] = {}
    for parameter in graph.parameters():
        fakes[id(parameter)] = nn.Parameter(mode.from_tensor(parameter.detach()), parameter.requires_grad)
    for buffer in graph.buffers():
        fakes[id(buffer)] = mode.from_tensor(buffer)
    return copy.deepcopy(graph, fakes)


def _fake(value: Any, mode: FakeTensorMode) -> Any:
    return pytree.tree_map_only(Tensor, mode.from_tensor, value)


def _fake_labels(labels: Labels, mode: FakeTensorMode) -> Labels:
    return Labels(_fake(labels.value, mode), labels.rows)
