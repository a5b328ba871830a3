"""Heads of several stages, planned: a chain of its own for each, whose programme gives less memory for more work."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache

import numpy as np

from ubertrain.planning.chain import BranchCost, Chain
from ubertrain.planning.needs import Staged
from ubertrain.planning.schedule import Item
from ubertrain.planning.simulate import by_stages
from ubertrain.planning.tables import tables

_MOST = 60
"""Schedules of a table that are looked at, spread over the range of its budgets."""


@lru_cache(256)
def heads_by_stages(branch: BranchCost) -> tuple[Staged, ...]:
    """The ways to run the head of a branch stage by stage of which none is beaten in memory and work; none if it runs as one.

    A branch that may run one row at a time, for which nothing is recomputed, recomputes only where that is not enough.
    """
    found: dict[tuple[Item, ...], BranchCost] = {}
    for cost in branch.heads[-1:]:
        for fresh in (False, True):
            for head in _heads(cost.chain(fresh=fresh)):
                found.setdefault(head, by_stages(branch, head))
    least = {head: (cost.work, *_least(cost)) for head, cost in found.items()}
    return tuple(Staged(head, cost) for head, cost in found.items() if not _beaten(least[head], least.values()))


def _heads(chain: Chain) -> Iterator[tuple[Item, ...]]:
    for table in tables(chain):
        places = np.linspace(0, len(table.steps) - 1, _MOST).round().astype(int)
        for place in sorted(set(places.tolist())):
            yield table.schedule(table.steps[place][0])[0]


def _least(cost: BranchCost) -> tuple[int, int]:
    """Fewest bytes beyond sums that are there, and with those that it makes."""
    return (cost.later_peak, cost.first_peak) if cost.one_row is None or cost.rows == 1 else (cost.one_row, cost.one_row)


def _beaten(one: tuple[float, int, int], by: Collection[tuple[float, int, int]]) -> bool:
    return any(other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in by)
