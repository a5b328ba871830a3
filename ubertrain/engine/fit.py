"""Budget -> schedule: estimate, plan, rehearse, and tighten until it fits to the byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.engine.chain_cache import remembered
from ubertrain.engine.graph import Graph, batch_size
from ubertrain.engine.labels import Labels
from ubertrain.engine.parts import parts
from ubertrain.engine.rehearse import rehearse
from ubertrain.errors import BudgetError, ScheduleError
from ubertrain.planning.chain import Chain
from ubertrain.planning.plan import plan
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import Usage, simulate
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
    limit = parse_bytes(budget)
    chain = remembered(graph, images, targets, cost=cost, rounding=rounding) if chain is None else chain
    refusal: BudgetError | None = None
    try:
        best, usage = _fitted(graph, images, targets, chain, limit, planner, rounding)
        least = usage.work
        if not split_batch or usage.recompute_work == 0:
            return best
    except BudgetError as error:
        if not split_batch:
            raise
        refusal, least = error, inf
    for rows, count, part_images, part_targets in _smaller(graph, images, targets):
        part = remembered(graph, part_images, part_targets, cost=cost, rounding=rounding)
        try:
            schedule, usage = _fitted(graph, part_images, part_targets, part, limit, planner, rounding)
        except BudgetError as error:
            refusal = _lesser(refusal, error, rows)
            continue
        split = replace(schedule, rows=rows)
        if count * usage.work < least and rehearse(graph, split, images, targets, rounding=rounding) <= limit:
            best, least, refusal = split, count * usage.work, None
    if refusal is not None:
        raise refusal
    return best


def _lesser(refusal: BudgetError | None, other: BudgetError, rows: int) -> BudgetError | None:
    """Of two refusals that of the smaller budget; `other` is of a step of `rows` images."""
    if refusal is None or other.smallest is None or (refusal.smallest or inf) <= other.smallest:
        return refusal
    schedule = replace(other.schedule, rows=rows) if isinstance(other.schedule, Schedule) else None
    return BudgetError(f"with {rows} images at a time: {other}", smallest=other.smallest, schedule=schedule)


def _fitted(
    graph: Graph, images: Any, targets: Mapping[str, Any], chain: Chain, limit: int, planner: str, rounding: int
) -> tuple[Schedule, Usage]:
    """The cheapest schedule of a step that is not split, and what it means on the chain."""
    aim, refusal = limit, None
    for _ in range(_TRIES):
        try:
            schedule = plan(chain, aim, planner)
        except BudgetError as error:
            assert isinstance(error.schedule, Schedule)
            schedule, refusal = error.schedule, error
        usage = simulate(chain, schedule)
        over = rehearse(graph, schedule, images, targets, rounding=rounding) - limit
        if over <= 0:
            return schedule, usage
        if refusal is not None:
            break
        aim = max(
            0, min(aim, usage.peak_bytes) - (over + 1) // 2
        )  # the simulation was short by as much; not all of it need be so
    if refusal is not None and aim == limit:
        raise refusal
    raise BudgetError(
        f"the plans for a budget of {limit} bytes need more when they are rehearsed, the last one by {over} bytes: {schedule}; "
        "a stage of this graph does not cost by itself what it costs in the trunk. Raise the budget by that much",
        smallest=limit + over if refusal is None else max(limit + over, refusal.smallest or 0),
        schedule=schedule,
    )


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
