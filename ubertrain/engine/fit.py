"""The schedule that fits a budget, tried out on fake tensors until one does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ubertrain.engine.graph import Graph
from ubertrain.engine.rehearse import rehearse
from ubertrain.errors import BudgetError
from ubertrain.planning.every_k import every_k
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import Schedule
from ubertrain.units import format_bytes, parse_bytes


def candidates(graph: Graph) -> Iterator[Schedule]:
    """Schedules worth trying, the cheapest first: nothing recomputed, then equal spans, lengths near sqrt(stages) first."""
    stages, tasks = graph.stage_names, tuple(graph.branches)
    yield keep_all(stages, tasks)
    best = math.sqrt(len(stages))
    for k in sorted(range(1, len(stages) + 1), key=lambda k: abs(k - best)):
        yield every_k(stages, tasks, k)


def fit(graph: Graph, images: Any, targets: Mapping[str, Any], *, budget: int | str) -> Schedule:
    """The first of `candidates` whose rehearsed peak is within `budget`, to the byte.

    Args:
        graph: is not touched.
        images: a batch, or tensors of its shape, dtype and device.
        targets: labels of the batch: the fullest that training will meet.
        budget: bytes of activations, what `LiveBytes` counts, as a number or like "6GiB".

    Raises:
        BudgetError: none fits; names the smallest peak that a known schedule reaches.
    """
    limit = parse_bytes(budget)
    peaks: dict[Schedule, int] = {}
    for schedule in candidates(graph):
        peaks[schedule] = rehearse(graph, schedule, images, targets)
        if peaks[schedule] <= limit:
            return schedule
    best = min(peaks, key=lambda schedule: peaks[schedule])
    raise BudgetError(
        f"no schedule keeps the activations of this step within {format_bytes(limit)} ({limit} bytes); the smallest feasible "
        f"budget is {format_bytes(peaks[best])} ({peaks[best]} bytes), by: {best}. Raise the budget to that, or lower the "
        "batch or the image size"
    )
