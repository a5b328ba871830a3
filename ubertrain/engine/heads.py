"""Heads of several stages: a head that is an `nn.Sequential` is a chain, of which a schedule keeps some and recomputes others.

Its first child is called with the list of levels, every other with what the one before returned; the loss ends the chain. Its
spans are run as those of the trunk, inside the run of the branch: with the branch's random numbers, on the rows in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from ubertrain.engine.graph import Graph
from ubertrain.engine.sequential import children_of, is_its_children, spelled
from ubertrain.engine.spans import SpanRunner, explained
from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import BranchRun, Schedule


def head_stages(graph: Graph, task: str) -> tuple[str, ...]:
    """The names of the stages of a task's head, in order; none if it runs only as one."""
    return () if _runs_as_one(graph, task) else children_of(graph.heads[task])


def check_head(graph: Graph, run: BranchRun) -> None:
    """Raise `ScheduleError` if a branch cannot run the stages of its head as it is told to."""
    if not run.head:
        return
    if reason := _runs_as_one(graph, run.task):
        raise ScheduleError(f"branch {run.task!r} cannot run its head stage by stage, {run}: {reason}")
    head, names = graph.heads[run.task], list(Schedule(run.head).stages)
    stages = children_of(head)
    for stage in stages:
        part = spelled(head.get_submodule, stage, names)
        if part is None:
            found = f"{names[0]!r} stands there" if names else "it ends there"
            raise ScheduleError(
                f"branch {run}: the head does not go on with stage {stage!r}: {found}; it is: {' '.join(stages)}"
            )
        names = names[len(part) :]
    if names:
        raise ScheduleError(f"branch {run} names {names[0]!r} after the end of its head: {' '.join(stages)}")


@contextmanager
def prediction_of(head: nn.Module, run: BranchRun) -> Iterator[Callable[[list[Any]], Any]]:
    """Gives what makes a prediction from levels, by the head as a whole or by its stages; the backward belongs inside, too.

    Raises:
        ScheduleError: a stage did not repeat itself.
    """
    if not run.head:
        yield head
        return
    runner = SpanRunner(head.get_submodule, lambda name, value: None)
    with explained(runner, f"in the head of task {run.task!r}: "):
        yield partial(runner.run, run.head)


def _runs_as_one(graph: Graph, task: str) -> str | None:
    """Why a head has no stages, or none that can be told apart; None if it has."""
    head = graph.heads[task]
    if graph.branches[task].loss is None:
        return "its loss needs the head (`losses`), not only its prediction"
    if not is_its_children(head) or not children_of(head):
        return f"{type(head).__name__} is not an nn.Sequential of stages without a forward or hooks of its own"
    return None
