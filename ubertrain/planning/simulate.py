"""What a schedule means on a chain: bytes alive and work done, moment by moment, without a tensor.

The rules are those of the engine. First the trunk runs forward: a kept stage leaves what its backward needs, a span its output
alone. The values of taps stay for the branches that run at the top; then these run last to first, and of each tap a gradient
sum stays until its stage is back-propagated. In the backward a span is first run again, up to its last stage, whose recompute
stops as soon as the last tensor that is needed is back; spans inside it keep their outputs only and are recomputed in their
turn. A late branch runs when the gradient of its tap is complete, outside of every span that ends there. A narrow branch runs
at the top, on what is held of its levels since the forward; where a late one would run, its levels are narrowed again. A branch
whose head runs stage by stage is a step of its own, with these rules, in one moment of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ubertrain.errors import ScheduleError
from ubertrain.planning.chain import BranchCost, Chain, HeadCost, Keeping, Narrowed, StageCost
from ubertrain.planning.schedule import BranchRun, Item, Products, Schedule, Span, stage_of


@dataclass(frozen=True)
class Moment:
    """One thing that a step does.

    Attributes:
        what: e.g. "forward res2.0", "recompute res2.0", "backward res2.0", "branch depth"; of a narrow branch "narrow depth
            at res2.0" in the forward and "pull depth at res2.0" in the backward.
        peak_bytes: the most that is alive during it.
        live_bytes: what is alive after it.
    """

    what: str
    peak_bytes: int
    live_bytes: int


@dataclass(frozen=True)
class Usage:
    """What a step needs.

    Attributes:
        peak_bytes: the most bytes alive, never less than the engine's.
        work: of the whole step, in the chain's unit.
        recompute_work: the part of it that keeping everything would save.
        timeline: the moments of the step in order.
    """

    peak_bytes: int
    work: float
    recompute_work: float
    timeline: tuple[Moment, ...]

    @property
    def at_peak(self) -> Moment:
        """The first moment that needs `peak_bytes`."""
        return max(self.timeline, key=lambda moment: moment.peak_bytes)


def simulate(chain: Chain, schedule: Schedule) -> Usage:
    """Bytes and work of one step by `schedule`.

    Args:
        chain: the step's measures.
        schedule: names every stage of the chain once, in order.

    Raises:
        ScheduleError: the schedule names other stages, of the trunk or a head, keeps products of a stage that does not allow
            it, splits the rows of a branch that couples images, or splits the batch, for which a chain of its own must be
            measured.
    """
    if schedule.stages != chain.names:
        raise ScheduleError(f"the schedule and the chain differ in their stages: {schedule} against {' '.join(chain.names)}")
    if schedule.rows is not None and schedule.rows < chain.batch:
        raise ScheduleError(f"the chain is of {chain.batch} images; estimate one of {schedule.rows} for rows={schedule.rows}")
    walk = _Walk(chain, schedule)
    items = _first(schedule.trunk, len(chain.stages))
    holds = walk.forward(items)
    walk.branches()
    walk.backward(items, holds)
    least = sum(stage.forward + stage.whole.backward for stage in chain.stages) + sum(b.work for b in chain.branches)
    peak = max((moment.peak_bytes for moment in walk.moments), default=0)
    return Usage(peak, walk.work, _difference(walk.work, least), tuple(walk.moments))


@lru_cache(4096)
def by_stages(branch: BranchCost, head: tuple[Item, ...]) -> BranchCost:
    """What a branch costs if its head runs as `head` says; nothing means as one.

    Raises:
        ScheduleError: the head has other stages, or one of which products cannot be kept.
    """
    if not head:
        return branch
    if not branch.heads:
        raise ScheduleError(f"the head of branch {branch.task!r} runs only as one; drop {Span(head)}")
    whole, *one = branch.heads
    first, later, work = _head(whole, head, fresh=True), _head(whole, head, fresh=False), branch.work
    one_row, per_row = (later[0], 0) if branch.rows == 1 else (None, 0)
    if one and branch.rows > 1:
        one_row = _head(one[0], head, fresh=False)[0]
        per_row = -(-max(0, later[0] - one_row) // (branch.rows - 1))
    more = max(0.0, later[1])
    return replace(
        branch,
        first_peak=first[0],
        later_peak=later[0],
        one_row=one_row,
        per_row=per_row,
        work=work + more,
        narrow=None,
        heads=(),
    )


def _head(cost: HeadCost, head: tuple[Item, ...], *, fresh: bool) -> tuple[int, float]:
    """Peak bytes of a head that runs stage by stage, and what it does more than otherwise."""
    chain = cost.chain(fresh=fresh)
    usage = simulate(chain, Schedule(head))
    return cost.held + usage.peak_bytes - chain.starts, usage.recompute_work


def _difference(work: float, least: float) -> float:
    """What is more than the least; sums in another order differ by a trace."""
    return 0.0 if abs(work - least) < 1e-12 * least else work - least


class _Walk:
    """The state of a step: what is alive beside the current moment, and the moments so far."""

    def __init__(self, chain: Chain, schedule: Schedule) -> None:
        self.chain = chain
        self.number = {stage.name: number for number, stage in enumerate(chain.stages)}
        self.runs = {run.task: run for run in schedule.branches}
        self.all = [by_stages(branch, self._run(branch).head) for branch in chain.branches]
        self.late = [branch for branch in self.all if branch.may_be_late and self._run(branch).late]
        self.narrow = {branch.task: branch.narrow for branch in self.all if branch.narrow and self._run(branch).narrow}
        self.top = [branch for branch in self.all if branch not in self.late]
        self.tapped = {tap for branch in self.top for tap in branch.taps if branch.task not in self.narrow}
        self.live = chain.starts
        self._inside = 0
        self.sums: dict[int, int] = {}
        self.moments: list[Moment] = []
        self.work = 0.0

    def forward(self, items: Sequence[Item]) -> list[int]:
        """The first run of the trunk; returns the bytes that each item holds until its backward."""
        holds = []
        for item in items:
            holds.append(self._pass(item, "forward", 0) if isinstance(item, Span) else self._keep(item, "forward", 0))
            self.live += holds[-1]
            self._hold_narrow(self.number[_ends(item)[1]], 0)
        return holds

    def branches(self) -> None:
        """The branches at the top, after which the values of taps are let go."""
        for branch in reversed(self.top):
            if narrow := self.narrow.get(branch.task):
                self._moment(f"branch {branch.task}", narrow.peak, branch.left + narrow.gradient - narrow.held)
                self.live += branch.left + narrow.gradient - narrow.held
                self.work += branch.work + narrow.work
            else:
                self._branch(branch)
        self.live -= self._inside

    def backward(self, items: Sequence[Item], holds: Sequence[int]) -> None:
        """The backward of items that are all held, last to first."""
        for item, hold in zip(reversed(items), reversed(holds), strict=True):
            last = self.number[_ends(item)[1]]
            self._late(last)
            self.live -= hold
            self.sums.pop(last, None)
            if isinstance(item, Span):
                self._recompute(item)
            else:
                stage, way = self._kept(item)
                self._moment(f"backward {stage.name}", way.backward_peak + self._meeting(stage, last), self._incoming(last - 1))
                self.work += way.backward

    def _recompute(self, span: Span) -> None:
        """Run a span again from its input, and its backward."""
        numbers = self._numbers(span)
        held = sum(depth * self.chain.stages[self.number[name]].noted for name, depth in _depths(span.items, 1))
        copies = sum(self.chain.stages[number].noted for number in numbers)
        self.live += held
        *before, final = span.items
        pending = copies + self.chain.stages[numbers[-1]].pending
        holds: list[int] = []
        for item in before:
            hold = self._pass(item, "recompute", pending) if isinstance(item, Span) else self._keep(item, "recompute", pending)
            if isinstance(item, str) and not holds:  # what begins a span may have to leave its input as it is
                held, self.live = held + self._clone(item), self.live + self._clone(item)
            holds.append(hold)
            self.live += hold
        if isinstance(final, Span):
            self._recompute(final)
        else:
            stage, last = self.chain.stages[numbers[-1]], numbers[-1]
            peak = stage.tail_peak + copies + self._meeting(stage, last) + (0 if before else stage.clone)
            self._moment(f"recompute and backward {stage.name}", peak, self._incoming(last - 1))
            self.work += stage.partial + stage.whole.backward
        self.backward(before, holds)
        self.live -= held

    def _keep(self, item: str | Products, doing: str, pending: int) -> int:
        stage, way = self._kept(item)
        noted = stage.noted if doing == "recompute" else 0  # what a recompute moves are copies, which may be saved
        self._moment(f"{doing} {stage.name}", way.forward_peak + noted + pending, way.kept + noted + pending)
        self.work += stage.forward
        return way.kept + noted

    def _pass(self, span: Span, doing: str, pending: int) -> int:
        """Run a span that keeps its output only; in the first run the values of taps inside it stay as well."""
        start, depths, copies = self._numbers(span)[0] - 1, _depths(span.items, 1), 0
        begin = _beginnings(span)
        for name, depth in depths:
            number = self.number[name]
            stage, before = self.chain.stages[number], number - 1
            inside = doing == "forward" and before > start and before in self.tapped
            current = copies + pending + (0 if inside else self.chain.held(start, before))
            copies += depth * stage.noted
            clone = stage.clone if name in begin else 0
            self._moment(f"{doing} {name}", current + depth * stage.noted + stage.pass_peak + clone, current)
            self.work += stage.forward
            if doing == "forward" and number in self.tapped and name != depths[-1][0]:
                self._inside += self.chain.held(start, number)
                self.live += self.chain.held(start, number)
            elif doing == "forward" and name != depths[-1][0]:
                self._hold_narrow(number, copies + self.chain.held(start, number))
        return self.chain.held(start, self.number[depths[-1][0]]) + copies

    def _hold_narrow(self, tap: int, current: int) -> None:
        """What narrow branches hold of a tap that has just been made; `current` are bytes alive beside what is held."""
        for branch in self.all:
            for level in self._levels(branch, tap):
                self._moment(f"narrow {branch.task} at {self.chain.stages[tap].name}", current + level.hold_peak, level.held)
                self.live += level.held

    def _late(self, tap: int) -> None:
        for branch in reversed(self.all):
            if branch in self.late and branch.taps == (tap,):
                self._branch(branch, incoming=self._incoming(tap))
            for level in reversed(self._levels(branch, tap)):
                self._pull(branch, tap, level)

    def _pull(self, branch: BranchCost, tap: int, level: Narrowed) -> None:
        """A level is narrowed again, and back-propagated."""
        stage, incoming = self.chain.stages[tap], self._incoming(tap)
        self.live -= level.gradient
        peak, fresh = (level.later_peak, 0) if tap in self.sums else (level.first_peak, stage.gradient)
        self._moment(f"pull {branch.task} at {stage.name}", incoming + peak, incoming + fresh)
        self.sums[tap] = stage.gradient

    def _levels(self, branch: BranchCost, tap: int) -> list[Narrowed]:
        """The levels of a branch at a tap, if it is narrow."""
        narrow = self.narrow.get(branch.task)
        return [level for place, level in zip(branch.taps, narrow.levels, strict=True) if place == tap] if narrow else []

    def _branch(self, branch: BranchCost, incoming: int = 0) -> None:
        gradients = {tap: self.chain.stages[tap].gradient for tap in branch.taps}
        fresh = {tap: size for tap, size in gradients.items() if tap not in self.sums}
        rows = self._run(branch).rows
        if rows is not None and rows < branch.rows and branch.one_row is None:
            raise ScheduleError(f"branch {branch.task!r} couples its images and cannot run rows={rows} at a time")
        peak = branch.peak(rows, fresh=sum(fresh.values()), total=sum(gradients.values()))
        self._moment(f"branch {branch.task}", incoming + peak, incoming + branch.left + sum(fresh.values()))
        self.sums |= fresh
        self.live += branch.left
        self.work += branch.work

    def _incoming(self, value: int) -> int:
        """Bytes of the gradient of a value, as it comes from the stages above it."""
        return self.chain.stages[value].gradient if 0 <= value < len(self.chain.stages) - 1 else 0

    def _meeting(self, stage: StageCost, number: int) -> int:
        return stage.meeting if number - 1 in self.sums else 0

    def _moment(self, what: str, peak: int, after: int) -> None:
        base = self.live + sum(self.sums.values())
        self.moments.append(Moment(what, base + peak, base + after))

    def _kept(self, item: str | Products) -> tuple[StageCost, Keeping]:
        stage = self.chain.stages[self.number[stage_of(item)]]
        if isinstance(item, str):
            return stage, stage.whole
        if stage.products is None:
            raise ScheduleError(f"stage {stage.name!r} does not allow to keep products only, [{stage.name}]; keep it whole")
        return stage, stage.products

    def _clone(self, name: str) -> int:
        return self.chain.stages[self.number[name]].clone

    def _numbers(self, span: Span) -> list[int]:
        return [self.number[name] for name in Schedule(span.items).stages]

    def _run(self, branch: BranchCost) -> BranchRun:
        return self.runs.get(branch.task, BranchRun(branch.task))


def _first(items: Sequence[Item], count: int) -> tuple[Item, ...]:
    """The items as far as their first `count` stages; what is above runs for no label."""
    kept: list[Item] = []
    for item in items:
        size = len(Schedule((item,)).stages)
        if count <= 0:
            break
        kept.append(Span(_first(item.items, count)) if isinstance(item, Span) else item)
        count -= size
    return tuple(kept)


def _ends(item: Item) -> tuple[str, str]:
    names = Schedule((item,)).stages
    return names[0], names[-1]


def _beginnings(span: Span) -> set[str]:
    """The stages with which a span, or one inside it, begins."""
    inside = (name for item in span.items if isinstance(item, Span) for name in _beginnings(item))
    return {_ends(span)[0], *inside}


def _depths(items: Sequence[Item], depth: int) -> list[tuple[str, int]]:
    """The stages of a list and how many spans each is in."""
    return [
        pair for item in items for pair in (_depths(item.items, depth + 1) if isinstance(item, Span) else [_depth(item, depth)])
    ]


def _depth(item: str | Products, depth: int) -> tuple[str, int]:
    """A stage of which products are kept is a span of its own, as far as copies of buffers go."""
    return stage_of(item), depth + isinstance(item, Products)
