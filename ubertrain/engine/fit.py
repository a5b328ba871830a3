"""Budget -> schedule: estimate, plan, rehearse, and tighten until it fits to the byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ubertrain.engine.chain_cache import remembered
from ubertrain.engine.graph import Graph
from ubertrain.engine.rehearse import rehearse
from ubertrain.errors import BudgetError
from ubertrain.planning.chain import Chain
from ubertrain.planning.plan import plan
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import simulate
from ubertrain.units import parse_bytes

_TRIES = 8


def fit(
    graph: Graph,
    images: Any,
    targets: Mapping[str, Any],
    *,
    budget: int | str,
    cost: str = "auto",
    planner: str = "optimal",
    rounding: int = 1,
    chain: Chain | None = None,
) -> Schedule:
    """The cheapest schedule whose rehearsed peak is within `budget`, to the byte.

    Args:
        graph: is not touched.
        images: a batch, tensors of its shape and dtype without memory, or its shape, like (8, 3, 512, 512).
        targets: labels of the batch: the fullest that training will meet.
        budget: bytes of activations, what `LiveBytes` counts, as a number or like "6GiB".
        cost: what is to be saved, see `estimate`.
        planner: "optimal", or a baseline, see `plan`.
        rounding: see `estimate`.
        chain: of this step, if it has been measured already.

    Raises:
        BudgetError: nothing fits; names the smallest feasible budget, the moment of its peak, and what would lower it.
        ScheduleError: the shapes of a head or loss depend on values.
    """
    limit = parse_bytes(budget)
    chain = remembered(graph, images, targets, cost=cost, rounding=rounding) if chain is None else chain
    aim = limit
    for _ in range(_TRIES):
        schedule = plan(chain, aim, planner)
        over = rehearse(graph, schedule, images, targets, rounding=rounding) - limit
        if over <= 0:
            return schedule
        aim = min(aim, simulate(chain, schedule).peak_bytes) - over  # the simulation was short by as much
    raise BudgetError(
        f"the plans for a budget of {limit} bytes need more when they are rehearsed, the last one by {over} bytes: {schedule}; "
        "a stage of this graph does not cost by itself what it costs in the trunk. Raise the budget by that much"
    )
