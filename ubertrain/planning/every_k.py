"""Spans of equal length: Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost" (2016), section 4."""

from collections.abc import Sequence

from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import BranchRun, Schedule, Span


def every_k(stages: Sequence[str], tasks: Sequence[str], k: int) -> Schedule:
    """The input of every `k`-th stage is kept, everything between is recomputed once.

    The last span is recomputed too: it would otherwise be held while the branches run (UberNet, figure 6a). With L stages of
    equal size, k = sqrt(L) keeps about 2 sqrt(L) of them for one more forward pass; k = 1 recomputes stage by stage.

    Args:
        stages: the trunk's stages in order.
        tasks: the branches in order of declaration.
        k: stages a span, at least 1.

    Raises:
        ScheduleError: `k` is below 1.
    """
    if k < 1:
        raise ScheduleError(f"every_k needs at least one stage a span, got k={k}")
    spans = (Span(tuple(stages[start : start + k])) for start in range(0, len(stages), k))
    return Schedule(tuple(spans), tuple(map(BranchRun, tasks)))
