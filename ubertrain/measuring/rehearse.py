"""The exact peak of a step, known before it is run: the same engine on tensors that have a shape but no memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.meter import LiveBytes
from ubertrain.engine.watch import Watch
from ubertrain.measuring.fakes import faked
from ubertrain.planning.schedule import Schedule


def rehearse(graph: Graph, schedule: Schedule, images: Any, targets: Mapping[str, Any], *, rounding: int = 1) -> int:
    """Peak bytes of one step as `LiveBytes` would count them, without computing or allocating it.

    Args:
        graph: is not touched.
        schedule: the schedule to try.
        images: a batch, tensors of its shape and dtype without memory, or its shape, like (8, 3, 512, 512).
        targets: labels of the batch, likewise; their rows decide which branches run.
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
    with faked(graph, images, targets) as (copied, batch, labels):
        engine = Engine(copied, schedule, watch=watch)
        with meter:
            engine.forward_backward(batch, labels)
