"""From the programme's slots to exact bytes: its schedules are simulated, and the cheapest that really fits is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ubertrain.planning.chain import BranchCost, Chain
from ubertrain.planning.heads import heads_by_stages
from ubertrain.planning.optimal import TIE
from ubertrain.planning.schedule import Item, Schedule
from ubertrain.planning.simulate import by_stages, simulate
from ubertrain.planning.tables import ABOVE, Choice, tables


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
        self._tables = list(tables(chain, {branch.task: heads_by_stages(branch) for branch in chain.branches if branch.heads}))
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
            if slots * slot > budget + (ABOVE * slot if slot > 1 else 0):
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
            if best is not None and slots * slot > best.peak_bytes + ABOVE * slot:
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
            trunk, heads = table.schedule(slots)
            self._found[place, slots] = _exact(self._chain, trunk, Choice(table.late, table.narrow), heads)
        return self._found[place, slots]


def _exact(chain: Chain, trunk: tuple[Item, ...], choice: Choice, heads: Mapping[str, tuple[Item, ...]]) -> Found:
    """What running the trunk and the heads needs when every branch takes as few rows at a time as helps."""
    runs = (replace(run, head=heads.get(run.task, ())) for run in choice.runs(chain))
    schedule = Schedule((*trunk, *chain.unused), tuple(runs))
    usage = simulate(chain, schedule)
    peaks = _branch_peaks(chain, schedule, 1)
    least = max((min(peaks.get(moment.what, moment.peak_bytes), moment.peak_bytes) for moment in usage.timeline), default=0)
    return Found(schedule, least, usage.work)


def _raise_rows(chain: Chain, schedule: Schedule, budget: int) -> Schedule:
    one, whole = _branch_peaks(chain, schedule, 1), _branch_peaks(chain, schedule, None)
    per_task = {branch.task: branch for branch in chain.branches}
    runs = [
        replace(run, rows=_rows(by_stages(per_task[run.task], run.head), one[what], budget))
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
