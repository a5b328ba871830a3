"""The tables in which the programme is solved for one chain: which choices of branches are tried, with how many slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain as joined
from itertools import combinations
from math import gcd
from typing import TypeVar

import numpy as np

from ubertrain.planning.chain import BranchCost, Chain
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.needs import Heads
from ubertrain.planning.optimal import Table
from ubertrain.planning.schedule import BranchRun
from ubertrain.planning.simulate import simulate

_CELLS = 4e8
"""Additions that one chain may cost, roughly: a second."""

_BYTES = 256 * 2**20
"""Memory for the tables of one chain."""

_SLOTS = (400, 20_000)
"""Fewest and most slots of a table."""

_FINE = 24
"""Slots for each stage with which one table is enough."""

_PARTS = (1, 2, 8, 32)
"""Else tables are made for these parts of the largest budget, each with finer slots than the one before."""

ABOVE = 24
"""How many slots above a budget schedules are tried: sizes were rounded."""

_LONG = 120
"""Most stages of a chain for which branches are tried at the top that may be late."""

_ALL_SUBSETS = 3
"""Most taps that may be late, and groups of branches that may be narrow, of which every subset is tried."""


T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """How branches run.

    Attributes:
        late: taps whose branches run late.
        narrow: tasks of the branches that run narrow.
    """

    late: frozenset[int]
    narrow: frozenset[str]

    def runs(self, chain: Chain) -> tuple[BranchRun, ...]:
        """All branches, those without labels plain."""
        late = {branch.task for branch in chain.branches if branch.may_be_late and set(branch.taps) <= self.late}
        return tuple(BranchRun(task, late=task in late, narrow=task in self.narrow) for task in chain.order)


def tables(chain: Chain, heads: Heads | None = None) -> Iterator[Table]:
    """The programme of a chain, solved for every choice of late taps and narrow branches, coarsely and more finely.

    Args:
        chain: the step's measures.
        heads: the ways to run heads stage by stage that may be chosen.
    """
    if not chain.stages:
        return
    choices = list(_choices(chain))
    for choice in choices:
        most = simulate(chain, replace(keep_all(chain.names, chain.order), branches=choice.runs(chain))).peak_bytes
        slots = _slots(len(chain.stages), len(choices))
        for part in _PARTS if slots < _FINE * len(chain.stages) else _PARTS[:1]:
            slot = _slot(chain, most // part, slots)
            width = -(-most // part // slot) + (ABOVE if slot > 1 else 0)
            table = Table(chain, choice.late, slot, width, choice.narrow, heads)
            if not table.steps:
                break
            yield table


def _slots(count: int, sets: int) -> int:
    """Slots of each table, by the time and memory that all may take."""
    fewest, most = _SLOTS
    return int(np.clip(min(_CELLS * 6 / count**3, _BYTES / 8 / count**2) / sets, fewest, most))


def _slot(chain: Chain, most: int, slots: int) -> int:
    """Bytes of a slot: about `most` / `slots`, so that all sizes are multiples of it if that can be, else with little waste."""
    sizes = [size for stage in chain.stages for size in (stage.whole.kept, *(size for _, size in stage.output))]
    sizes += [stage.products.kept for stage in chain.stages if stage.products]
    coarse = max(1, -(-most // slots))
    exact = gcd(*sizes)
    if exact >= coarse:
        return next(exact // parts for parts in range(exact // coarse, 0, -1) if exact % parts == 0)
    tried = np.unique(np.linspace(coarse, coarse * 1.25, 32).astype(np.int64))
    waste = (-np.array(sizes)[None] % tried[:, None]).sum(axis=1) / len(sizes)
    return int(tried[np.argmin(waste + tried / 4)])


def _choices(chain: Chain) -> Iterator[Choice]:
    """What is tried: every subset of few taps and groups, else none or all of either; on long chains late is always better."""
    taps = {tap for branch in chain.branches for tap in branch.taps}
    able = frozenset(
        tap
        for tap in taps
        if all(branch.may_be_late and len(branch.taps) == 1 for branch in chain.branches if tap in branch.taps)
    )
    groups = list(_narrow_groups(chain, able))
    every = len(able) + len(groups) <= _ALL_SUBSETS
    sets = _subsets(sorted(able), every) if len(chain.stages) <= _LONG else [tuple(sorted(able))]
    for late in sets:
        for narrow in _subsets(groups, every):
            yield Choice(frozenset(late), frozenset(joined.from_iterable(narrow)))


def _subsets(of: Sequence[T], every: bool) -> list[tuple[T, ...]]:
    """All subsets, or the smallest and the largest."""
    sizes = range(len(of) + 1) if every else sorted({0, len(of)})
    return list(joined.from_iterable(combinations(of, size) for size in sizes))


def _narrow_groups(chain: Chain, late: frozenset[int]) -> Iterator[frozenset[str]]:
    """The branches that must be narrow together, since they read a tap in common, directly or by others; late ones need not."""
    groups: list[list[BranchCost]] = []
    for branch in chain.branches:
        near = [group for group in groups if any(set(branch.taps) & set(other.taps) for other in group)]
        groups = [group for group in groups if group not in near] + [[branch, *joined.from_iterable(near)]]
    for group in groups:
        if all(branch.narrow and not set(branch.taps) <= late for branch in group):
            yield frozenset(branch.task for branch in group)
