"""Whether a schedule fits a graph, and which part of it a step needs: decided on names, before a tensor is touched."""

from collections.abc import Sequence

from torch import Tensor, nn

from ubertrain.engine.graph import BranchCall, Graph
from ubertrain.engine.heads import check_head
from ubertrain.engine.narrow import cannot_narrow
from ubertrain.engine.sequential import spelled
from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import BranchRun, Item, Schedule, Span, stage_of


def up_to(items: Sequence[Item], needed: set[str]) -> tuple[Item, ...]:
    """The items without what comes after the last needed stage; stages are needed from the first on, without a gap."""
    kept: list[Item] = []
    for item in items:
        if isinstance(item, Span):
            if inside := up_to(item.items, needed):
                kept.append(Span(inside))
        elif stage_of(item) in needed:
            kept.append(item)
    return tuple(kept)


def match(graph: Graph, schedule: Schedule) -> dict[str, str]:
    """Name in the schedule -> the stage of the graph whose output is there once it has run.

    Raises:
        ScheduleError: the schedule does not name every stage once, in order.
    """
    names, after = list(schedule.stages), {}
    for stage in graph.stage_names:
        part = spelled(graph.stage, stage, names)
        if part is None:
            found = f"{names[0]!r} stands there" if names else "it ends there"
            raise ScheduleError(
                f"the schedule does not go on with stage {stage!r}: {found}; the trunk is: {' '.join(graph.stage_names)}"
            )
        after[part[-1]] = stage
        names = names[len(part) :]
    if names:
        raise ScheduleError(f"the schedule names {names[0]!r} after the end of the trunk: {' '.join(graph.stage_names)}")
    return after


def branch_runs(graph: Graph, schedule: Schedule) -> tuple[BranchRun, ...]:
    """How the branches run, in order of declaration: as the schedule says, or whole if it says nothing of branches.

    Raises:
        ScheduleError: the schedule's branches are not the graph's, in their order, or one cannot run late, narrow, or by the
            stages that it names.
    """
    if not schedule.branches:
        return tuple(map(BranchRun, graph.branches))
    named = {run.task for run in schedule.branches}
    if named != set(graph.branches):
        wrong = ", ".join(sorted(named ^ set(graph.branches)))
        raise ScheduleError(
            f"the schedule and the graph differ in branches {wrong}; the graph has: {', '.join(graph.branches)}"
        )
    if [run.task for run in schedule.branches] != list(graph.branches):
        raise ScheduleError(
            f"the schedule must name the branches in the order of their declaration, in which gradients are summed: "
            f"{', '.join(graph.branches)}; got {', '.join(run.task for run in schedule.branches)}"
        )
    for run in schedule.branches:
        check_head(graph, run)
        if not run.at_top:
            _check_later(graph, run)
    return schedule.branches


def check_order(graph: Graph, runs: Sequence[BranchRun]) -> None:
    """Raise `ScheduleError` if branches of one step would sum their gradients in another order than plain autograd.

    Args:
        graph: the graph.
        runs: how the labelled branches run. The others, which send no gradients, may be written in any way.
    """
    for run in runs:
        taps = set(graph.taps[run.task])
        top = [other.task for other in runs if other.at_top and taps & set(graph.taps[other.task])]
        if top and not run.at_top:
            shared = min(tap for other in top for tap in taps & set(graph.taps[other]))
            raise ScheduleError(
                f"branch {run.task!r} cannot run {_how(run)} while {', '.join(top)} reads {shared!r} before the trunk's "
                "backward: the tap's gradients are summed in the order of declaration; write late or narrow behind all that "
                "read it, or behind none"
            )


def _check_later(graph: Graph, run: BranchRun) -> None:
    """Raise `ScheduleError` if a branch cannot run late, or narrow."""
    task, taps = run.task, set(graph.taps[run.task])
    if run.late and len(taps) > 1:
        raise ScheduleError(f"branch {task!r} cannot run late: it reads {len(taps)} taps, {', '.join(sorted(taps))}, not one")
    if run.narrow and (reason := cannot_narrow(graph, task)):
        raise ScheduleError(f"branch {task!r} cannot run narrow: {reason}")
    if owners := sharing(graph, task):
        raise ScheduleError(
            f"branch {task!r} cannot run {_how(run)}: it shares parameters or buffers with {', '.join(owners)}, whose "
            "gradients must be summed in the order of declaration"
        )


def _how(run: BranchRun) -> str:
    return "narrow" if run.narrow else "late"


def sharing(graph: Graph, task: str) -> list[str]:
    """The other branches, or else "the trunk", that have parameters or buffers of a branch."""
    state = set(_state(BranchCall(graph, task)))
    others = [other for other in graph.branches if other != task and state & set(_state(BranchCall(graph, other)))]
    return others or (["the trunk"] if state & set(_state(graph.trunk)) else [])


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
