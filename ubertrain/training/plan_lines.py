"""A schedule stage by stage and branch by branch, with what each holds and costs."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ubertrain.planning.chain import Chain, StageCost
from ubertrain.planning.schedule import Item, Products, Schedule, Span, stage_of
from ubertrain.planning.simulate import Usage, by_stages

KEPT, PRODUCTS, RECOMPUTED, UNUSED = "kept whole", "products kept", "recomputed", "does not run"


@dataclass(frozen=True)
class StageLine:
    """What becomes of one stage.

    Attributes:
        name: of the stage.
        how: `KEPT`, `PRODUCTS` (of convolutions and matrix products), `RECOMPUTED` or `UNUSED` (above all labelled taps).
        again: how often it runs again in the backward, whole.
        holds: bytes from its forward to its backward; of a span only its last stage holds any, the output.
        whole: bytes that it holds where it is kept whole.
        work: of its forward and backward by plain autograd, in the chain's unit.
        added: work that the schedule adds to that.
    """

    name: str
    how: str
    again: int
    holds: int
    whole: int
    work: float
    added: float


@dataclass(frozen=True)
class BranchLine:
    """How one branch runs.

    Attributes:
        task: its name.
        taps: the stages that it reads.
        images: labelled images.
        at_a_time: how many of them run at a time.
        way: "at the top", "late" or "narrow", see `BranchRun`.
        head: what is recomputed of its head, as a schedule says it; "" where the head runs as one.
        bytes: the most that it adds to what is alive when it begins.
        work: of its forward and backward, in the chain's unit.
        added: work that the stages of its head add to that.
    """

    task: str
    taps: tuple[str, ...]
    images: int
    at_a_time: int
    way: str
    head: str
    bytes: int
    work: float
    added: float


def stage_lines(chain: Chain, schedule: Schedule) -> list[StageLine]:
    """One line per stage of the trunk, in order; `schedule` names the stages of the chain.

    The `added` of all stages, and of all branches, sum up to the `recompute_work` of the schedule's simulation.
    """
    again, running = schedule.recomputed(), {stage.name for stage in chain.stages}
    lines = []
    for item in _running(schedule.trunk, running):
        if isinstance(item, Span):
            lines += _recomputed(chain, item, again)
        else:
            lines.append(_kept(chain, item))
    return lines + [StageLine(name, UNUSED, 0, 0, 0, 0.0, 0.0) for name in chain.unused]


def branch_lines(chain: Chain, schedule: Schedule, usage: Usage) -> list[BranchLine]:
    """One line per branch that runs, in order of declaration; `usage` is what `schedule` needs on `chain`."""
    runs = {run.task: run for run in schedule.branches}
    before, added = 0, {}
    for moment in usage.timeline:
        added[moment.what] = moment.peak_bytes - before
        before = moment.live_bytes
    lines = []
    for branch in chain.branches:
        run, taps = runs.get(branch.task), tuple(chain.stages[tap].name for tap in branch.taps)
        rows = branch.rows if run is None or run.rows is None else min(run.rows, branch.rows)
        way = "at the top" if run is None or run.at_top else "late" if run.late else "narrow"
        stages = run.head if run else ()
        head, more = " ".join(map(str, stages)), by_stages(branch, stages).work - branch.work
        peak = added[f"branch {branch.task}"]
        lines.append(BranchLine(branch.task, taps, branch.rows, rows, way, head, peak, branch.work, more))
    return lines


def _running(items: Sequence[Item], names: Collection[str]) -> list[Item]:
    """The items without the stages that do not run."""
    inside = ((item, _running(item.items, names)) for item in items if isinstance(item, Span))
    spans = {item: Span(tuple(left)) for item, left in inside if left}
    return [spans[item] if isinstance(item, Span) else item for item in items if item in spans or _name(item) in names]


def _name(item: Item) -> str | None:
    return None if isinstance(item, Span) else stage_of(item)


def _kept(chain: Chain, item: str | Products) -> StageLine:
    """A stage outside of spans."""
    stage = _cost(chain, stage_of(item))
    if not isinstance(item, Products) or stage.products is None:
        return _line(stage, KEPT, 0, stage.whole.kept, 0.0)
    return _line(stage, PRODUCTS, 0, stage.products.kept, stage.products.backward - stage.whole.backward)


def _recomputed(chain: Chain, span: Span, again: Mapping[str, int]) -> list[StageLine]:
    """The stages of a span and of those inside it."""
    numbers = {stage.name: number for number, stage in enumerate(chain.stages)}
    leaves = list(_leaves(span))
    names = [stage_of(item) for item, _ in leaves]
    holds = chain.held(numbers[names[0]] - 1, numbers[names[-1]])
    lines = []
    for item, is_last in leaves:
        stage = _cost(chain, stage_of(item))
        # Passed over by the spans around; then run once more for its own backward, as far as that needs it.
        added = (again[stage.name] - 1) * stage.forward + (stage.partial if is_last else stage.forward)
        if isinstance(item, Products) and stage.products is not None and not is_last:
            added += stage.products.backward - stage.whole.backward
        lines.append(_line(stage, RECOMPUTED, again[stage.name], holds if stage.name == names[-1] else 0, added))
    return lines


def _leaves(span: Span) -> Iterator[tuple[str | Products, bool]]:
    """The stages in a span, each with whether it ends the innermost span around it."""
    for place, item in enumerate(span.items):
        if isinstance(item, Span):
            yield from _leaves(item)
        else:
            yield item, place == len(span.items) - 1


def _cost(chain: Chain, name: str) -> StageCost:
    return next(stage for stage in chain.stages if stage.name == name)


def _line(stage: StageCost, how: str, again: int, holds: int, added: float) -> StageLine:
    return StageLine(stage.name, how, again, holds, stage.whole.kept, stage.forward + stage.whole.backward, added)


_UNITS = {
    "seconds": (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)),
    "FLOPs": (("TFLOPs", 1e12), ("GFLOPs", 1e9), ("MFLOPs", 1e6)),
}


def work_text(work: float, unit: str) -> str:
    """Work with three significant digits, such as "12.3 ms" or "4.56 GFLOPs"; `unit` is "seconds" or "FLOPs"."""
    name, size = next((step for step in _UNITS[unit] if abs(work) >= step[1]), _UNITS[unit][-1])
    return f"{work / size:.3g} {name}"
