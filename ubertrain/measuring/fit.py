"""Budget -> schedule: estimate, plan, rehearse, and tighten until it fits to the byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.engine.graph import Graph, batch_size
from ubertrain.engine.labels import Labels
from ubertrain.engine.parts import parts
from ubertrain.errors import BudgetError, ScheduleError
from ubertrain.measuring.chain_cache import remembered
from ubertrain.measuring.rehearse import rehearse
from ubertrain.planning.chain import Chain
from ubertrain.planning.plan import plan
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import simulate
from ubertrain.units import parse_bytes

_TRIES = 12


def fit(
    graph: Graph,
    images: Any,
    targets: Mapping[str, Any],
    *,
    budget: int | str,
    cost: str = "auto",
    planner: str = "optimal",
    rounding: int = 1,
    split_batch: bool = False,
    chain: Chain | None = None,
) -> Schedule:
    """The cheapest schedule whose rehearsed peak is within `budget`, to the byte.

    Args:
        graph: is not touched.
        images: a batch, tensors of its shape and dtype without memory, or its shape, like (8, 3, 512, 512).
        targets: labels of the batch: the fullest that training will meet.
        budget: bytes of activations, what `LiveBytes` counts, as a number or like "6GiB".
        cost: what is to be saved, see `estimate`.
        planner: "optimal", or a baseline, see `plan`.
        rounding: see `estimate`.
        split_batch: the whole step may run a few images at a time where that is cheaper and no module couples images. The
            gradient is then that of the whole batch to rounding, not to the bit, and dropout draws other numbers.
        chain: of this step, if it has been measured already.

    Raises:
        BudgetError: nothing fits; names the smallest feasible budget, the moment of its peak, and what would lower it.
        ScheduleError: the shapes of a head or loss depend on values.
    """
    chain = remembered(graph, images, targets, cost=cost, rounding=rounding) if chain is None else chain
    fitting = _Fitting(
        parse_bytes(budget), planner, partial(rehearse, graph, images=images, targets=targets, rounding=rounding)
    )
    best = fitting.attempt(chain)
    if split_batch and best.recompute_work > 0:
        for rows, count, part_images, part_targets in _smaller(graph, images, targets):
            part = remembered(graph, part_images, part_targets, cost=cost, rounding=rounding)
            best = min(best, fitting.attempt(part, rows, count), key=lambda attempt: attempt.rank)
    if best.refusal is not None:
        raise best.refusal
    assert best.schedule is not None
    return best.schedule


@dataclass(frozen=True)
class _Attempt:
    """A schedule that fits, with its work, or why none does."""

    schedule: Schedule | None = None
    work: float = inf
    recompute_work: float = inf
    refusal: BudgetError | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """Less is better: work, or where nothing fits the smallest budget that would do."""
        return self.work, inf if self.refusal is None or self.refusal.smallest is None else self.refusal.smallest


@dataclass(frozen=True)
class _Fitting:
    """Plans within a budget, the activations' bytes `limit`, and rehearses: `peak(schedule)` is that of the whole batch."""

    limit: int
    planner: str
    peak: Callable[[Schedule], int]

    def attempt(self, chain: Chain, rows: int | None = None, count: int = 1) -> _Attempt:
        """The cheapest schedule that fits; a plan that its rehearsal refutes is tightened.

        Args:
            chain: the step, or one of its `count` parts of `rows` images.
        """
        aim, refusal = self.limit, None
        for _ in range(_TRIES):
            try:
                planned = plan(chain, aim, self.planner)
            except BudgetError as error:
                assert isinstance(error.schedule, Schedule)
                planned, refusal = error.schedule, error
            usage, schedule = simulate(chain, planned), replace(planned, rows=rows)
            over = self.peak(schedule) - self.limit
            if over <= 0:
                return _Attempt(schedule, count * usage.work, usage.recompute_work)
            if refusal is not None:
                break
            aim = max(0, min(aim, usage.peak_bytes) - (over + 1) // 2)  # the simulation was short by as much, or by less
        return _Attempt(refusal=self._refused(schedule, over, refusal if aim == self.limit else None))

    def _refused(self, schedule: Schedule, over: int, refusal: BudgetError | None) -> BudgetError:
        need = self.limit + over
        given = "" if schedule.rows is None else f"with {schedule.rows} images at a time: "
        if refusal is None:
            text = (
                f"the plans for a budget of {self.limit} bytes need more when they are rehearsed, the last one by "
                f"{over} bytes: {schedule}; a stage of this graph costs other than by itself when it is in the trunk. Raise it "
                "by as much"
            )
        else:
            need = max(need, refusal.smallest or 0)
            text = str(refusal) if need == refusal.smallest else f"{refusal}. Rehearsed, the whole step needs {need} bytes"
        return BudgetError(given + text, smallest=need, schedule=schedule)


def _smaller(graph: Graph, images: Any, targets: Mapping[str, Any]) -> Iterator[tuple[int, int, Any, dict[str, Labels]]]:
    """Images at a time, number of parts, and the images and labels of the fullest part, halving as long as images are apart."""
    if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(images)):
        images = torch.empty(tuple(images), device="meta")
    labelled = graph.labelled(images, targets)
    rows = batch_size(images)
    while (rows := rows // 2) >= 1:
        try:
            found = list(parts(graph, rows, images, labelled))
        except ScheduleError:  # a module couples images
            return
        fullest = max(found, key=lambda part: sum(len(share.rows) for share in part.labelled.values()))
        yield rows, len(found), fullest.images, {task: share.labels for task, share in fullest.labelled.items()}
