"""From the programme's slots to exact bytes: its schedules are simulated, and the cheapest that really fits is taken."""

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
from ubertrain.planning.optimal import TIE, Table
from ubertrain.planning.schedule import BranchRun, Item, Schedule
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

_ABOVE = 24
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


@dataclass(frozen=True)
class Found:
    """A schedule with its branches in the smallest parts that help.

    Attributes:
        schedule: of the whole step.
        peak_bytes: simulated.
        work: simulated.
    """

    schedule: Schedule
    peak_bytes: int
    work: float

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller is better among schedules of equal work: less memory, then the simpler."""
        text = str(self.schedule)
        return self.peak_bytes, text.count("(") + text.count("[") + text.count(" late") + text.count(" narrow")


class Programme:
    """All that the programme finds on one chain; solved once, then asked for any number of budgets.

    Args:
        chain: the step's measures.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._tables = list(_tables(chain))
        steps = ((work, slots, place) for place, table in enumerate(self._tables) for slots, work in table.steps)
        self._steps = sorted(steps, key=lambda step: (step[0], step[1] * self._tables[step[2]].slot))
        self._found: dict[tuple[int, int], Found] = {}

    def best(self, budget: int) -> Found | None:
        """The schedule of least work whose simulated peak is within `budget` bytes; more budget never means more work."""
        best: Found | None = None
        for work, slots, place in self._steps:
            if best is not None and work > best.work + TIE * abs(best.work):
                break
            slot = self._tables[place].slot
            if slots * slot > budget + (_ABOVE * slot if slot > 1 else 0):
                continue
            found = self._find(slots, place)
            if found.peak_bytes <= budget and (best is None or found.rank < best.rank):
                best = found
        if best is None and (least := self.smallest()).peak_bytes <= budget:  # needs less than its slots said
            return least
        return best

    def smallest(self) -> Found:
        """The schedule of least simulated peak, and of these the one of least work."""
        best: Found | None = None
        for work, slots, place in sorted(self._steps, key=lambda step: step[1] * self._tables[step[2]].slot):
            slot = self._tables[place].slot
            if best is not None and slots * slot > best.peak_bytes + _ABOVE * slot:
                continue
            found = self._find(slots, place)
            if best is None or (found.peak_bytes, work) < (best.peak_bytes, best.work):
                best = found
        assert best is not None, "a chain can always be run"
        return best

    def sample(self, count: int) -> list[Found]:
        """Of the schedules found, about `count`, spread over the range of budgets; the least peak and work among them."""
        places = np.linspace(0, len(self._steps) - 1, count).round().astype(int)
        chosen = sorted(set(places.tolist()))
        return [self.smallest(), *(self._find(*self._steps[place][1:]) for place in chosen)]

    def schedule(self, found: Found, budget: int) -> Schedule:
        """The schedule with as many rows at a time in each branch as `budget`, at least its peak, allows; whole if it can."""
        return _raise_rows(self._chain, found.schedule, budget)

    def _find(self, slots: int, place: int) -> Found:
        if (place, slots) not in self._found:
            table = self._tables[place]
            self._found[place, slots] = _exact(self._chain, table.trunk(slots), Choice(table.late, table.narrow))
        return self._found[place, slots]


def _exact(chain: Chain, trunk: tuple[Item, ...], choice: Choice) -> Found:
    """What running the trunk needs when every branch takes the fewest bytes it can."""
    schedule = Schedule((*trunk, *chain.unused), choice.runs(chain))
    usage = simulate(chain, schedule)
    peaks = _branch_peaks(chain, schedule, 1)
    least = max((min(peaks.get(moment.what, moment.peak_bytes), moment.peak_bytes) for moment in usage.timeline), default=0)
    return Found(schedule, least, usage.work)


def _raise_rows(chain: Chain, schedule: Schedule, budget: int) -> Schedule:
    one, whole = _branch_peaks(chain, schedule, 1), _branch_peaks(chain, schedule, None)
    per_task = {branch.task: branch for branch in chain.branches}
    runs = [
        replace(run, rows=_rows(per_task[run.task], one[what], budget))
        if (what := f"branch {run.task}") in one and whole[what] > budget
        else run
        for run in schedule.branches
    ]
    return replace(schedule, branches=tuple(runs))


def _rows(branch: BranchCost, one: int, budget: int) -> int | None:
    """Most rows at a time, given the bytes with one row; one of them always fits."""
    most = branch.rows - 1
    return min(most, 1 + (budget - one) // branch.per_row) if branch.per_row > 0 else most


def _branch_peaks(chain: Chain, schedule: Schedule, rows: int | None) -> dict[str, int]:
    """Moment -> peak of every branch that can run in parts, when all of them take `rows` rows at a time."""
    narrow = {run.task for run in schedule.branches if run.narrow}
    splits = (branch for branch in chain.branches if branch.one_row is not None and branch.rows > 1)
    parts = {branch.task for branch in splits if branch.task not in narrow}
    if not parts:
        return {}
    runs = tuple(replace(run, rows=rows) if run.task in parts else run for run in schedule.branches)
    timeline = simulate(chain, replace(schedule, branches=runs)).timeline
    return {moment.what: moment.peak_bytes for moment in timeline if moment.what in {f"branch {task}" for task in parts}}


def _tables(chain: Chain) -> Iterator[Table]:
    if not chain.stages:
        return
    choices = list(_choices(chain))
    for choice in choices:
        most = simulate(chain, replace(keep_all(chain.names, chain.order), branches=choice.runs(chain))).peak_bytes
        slots = _slots(len(chain.stages), len(choices))
        for part in _PARTS if slots < _FINE * len(chain.stages) else _PARTS[:1]:
            slot = _slot(chain, most // part, slots)
            width = -(-most // part // slot) + (_ABOVE if slot > 1 else 0)
            table = Table(chain, choice.late, slot, width, choice.narrow)
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
