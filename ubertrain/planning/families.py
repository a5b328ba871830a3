"""The planners that are not optimal: families of schedules known from the literature, to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ubertrain.planning.chain import Chain
from ubertrain.planning.every_k import every_k
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.per_stage import per_stage
from ubertrain.planning.revolve import revolve
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.search import Found
from ubertrain.planning.simulate import simulate

FAMILIES: dict[str, Callable[[Sequence[str], Sequence[str]], list[Schedule]]] = {
    "keep_all": lambda stages, tasks: [keep_all(stages, tasks)],
    "every_k": lambda stages, tasks: [every_k(stages, tasks, k) for k in range(1, len(stages) + 1)],
    "per_stage": lambda stages, tasks: [per_stage(stages, tasks)],
    "revolve": lambda stages, tasks: [revolve(stages, tasks, held) for held in range(1, len(stages) + 1)],
}
"""Planner -> all its schedules for stages and branches."""


def family(chain: Chain, planner: str) -> list[Found]:
    """All schedules of a planner, simulated; stages that do not run are named as kept."""
    names = [stage.name for stage in chain.stages]
    schedules = FAMILIES[planner](names, chain.order) if names else []
    whole = [replace(schedule, trunk=(*schedule.trunk, *chain.unused)) for schedule in schedules]
    usages = [simulate(chain, schedule) for schedule in whole]
    return [Found(schedule, usage.peak_bytes, usage.work) for schedule, usage in zip(whole, usages, strict=True)]
