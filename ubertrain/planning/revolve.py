"""The optimum for equal stages, as nested spans.

Griewank and Walther, "Algorithm 799: revolve: an implementation of checkpointing for the reverse or adjoint mode of
computational differentiation" (ACM TOMS 26, 2000). With c values that can be held at a time, the chain's input among them, and
each stage run at most r times before the run that its backward follows, the longest chain that can be reversed has
beta(c, r) = binomial(c + r, c) stages.
"""

from collections.abc import Sequence
from math import comb

from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import BranchRun, Item, Schedule, Span


def reach(held: int, runs: int) -> int:
    """beta(held, runs): the longest chain for `held` values and `runs` runs of each stage; 0 for less than none."""
    return comb(held + runs, held) if runs >= 0 else 0


def least_runs(count: int, held: int) -> int:
    """Fewest runs of stages, those whose backward follows at once not counted, to reverse `count` of them (equation 3).

    Args:
        count: stages, at least 1.
        held: values that can be held at a time, the chain's input among them; at least 1.
    """
    most = _most_runs(count, held)
    return most * count - (reach(held + 1, most - 1) if most else 0)


def revolve(stages: Sequence[str], tasks: Sequence[str], held: int) -> Schedule:
    """The nested spans that reverse equal stages with the fewest runs.

    Args:
        stages: the trunk's stages in order.
        tasks: the branches in order of declaration; they run at the top.
        held: values that can be held at a time, the images among them; at least 1.

    Raises:
        ScheduleError: `held` is below 1.
    """
    if held < 1:
        raise ScheduleError(f"revolve needs room for at least one value, got held={held}")
    return Schedule(_items(stages, held), tuple(map(BranchRun, tasks)))


def _items(stages: Sequence[str], held: int) -> tuple[Item, ...]:
    items: list[Item] = []
    while len(stages) > 1:
        most = _most_runs(len(stages), held)
        size = max(1, reach(held, most - 2), len(stages) - reach(held - 1, most))
        items.append(Span(_items(stages[:size], held)))
        stages, held = stages[size:], held - 1
    return (*items, stages[0])


def _most_runs(count: int, held: int) -> int:
    runs = 0
    while reach(held, runs) < count:
        runs += 1
    return runs
