"""A branch measured by itself, on real or fake tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.engine.branches import coupling, run_branch
from ubertrain.engine.graph import BranchCall, Graph, Labelled
from ubertrain.engine.heads import head_stages
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.engine.narrow import NarrowBranch, cannot_narrow
from ubertrain.engine.taps import Tap
from ubertrain.errors import ScheduleError, TaskError
from ubertrain.measuring.head_cost import HeadMeter, larger
from ubertrain.measuring.work import OpCost, Work
from ubertrain.planning.chain import BranchCost, HeadCost, NarrowCost, Narrowed
from ubertrain.planning.schedule import BranchRun


class BranchMeter:
    """Measures the branches of a graph on given values of its taps.

    Args:
        graph: holds the heads.
        values: stage -> its output, which exists already and wants gradients where the trunk's does.
        batch: images.
        cost: of one operation.
        rounding: each storage counts as its bytes rounded up to a multiple of this.
    """

    def __init__(self, graph: Graph, values: Mapping[str, Any], batch: int, cost: OpCost, rounding: int = 1) -> None:
        self._graph = graph
        self._values = values
        self._batch = batch
        self._cost = cost
        self._rounding = rounding

    def measure(self, task: str, share: Labelled) -> BranchCost:
        """The costs of one branch; `share` are its labels and rows."""
        rows = len(share.rows)
        taps = self._taps(task)
        first, left, work = self._run(task, share, None, taps)
        if rows > 2:  # of some rows the sums are written out, also where that of all rows would stay one number expanded
            first = max(first, self._run(task, _few(share, rows - 1), None, self._taps(task))[0])
        later, _, _ = self._run(task, share, None, taps)
        one_row, per_row = self._parts(task, share, taps) if rows > 1 else (later, 0)
        numbers = tuple(self._graph.stage_names.index(tap) for tap in self._graph.taps[task])
        late, narrow = may_be_late(self._graph, task, self._values), self._narrow(task, share, work)
        heads = self._heads(task, share, taps, left if one_row is not None else None)
        return BranchCost(task, numbers, rows, first, later, one_row, per_row, left, late, work, narrow, heads)

    def _heads(self, task: str, share: Labelled, sums: Sequence[Tap], left: int | None) -> tuple[HeadCost, ...]:
        """The head stage by stage: on all rows, and, if images are apart, on one, beside `left` bytes of each other's loss."""
        if not head_stages(self._graph, task):
            return ()
        of_taps = partial(self._taps, task)
        meter, rows = HeadMeter(self._graph, task, sums, of_taps, self._batch, self._cost, self._rounding), len(share.rows)
        try:
            whole = meter.measure(share, fresh=True)
        except TaskError:  # between the stages is what only the head understands
            return ()
        if rows > 2:  # as in `measure`
            whole = replace(whole, first=larger(whole.first, meter.first(_few(share, rows - 1))))
        if left is None or rows == 1:
            return (whole,)
        return whole, meter.measure(_few(share, 1), losses=left * (rows - 1), fresh=False)

    def _narrow(self, task: str, share: Labelled, work: float) -> NarrowCost | None:
        """What the branch costs if it runs narrow; `work` is what it does otherwise."""
        names = self._graph.taps[task]
        if cannot_narrow(self._graph, task) or _shares_parameters(self._graph, task):
            return None
        if not all(_wants_gradient(self._values[name]) for name in names):
            return None
        taps = dict(zip(names, self._taps(task), strict=True))
        try:
            first, _, _ = self._run_narrow(task, share, taps)
            later, peak, total = self._run_narrow(task, share, taps)
        except ScheduleError:  # what only a run can tell: random numbers, buffers, shared parameters
            return None
        levels = [
            Narrowed(again.held, again.freed, again.hold_peak, fresh.rise + again.freed, again.rise + again.freed)
            for fresh, again in zip(first, later, strict=True)
        ]
        return NarrowCost(tuple(levels), peak, total - work)

    def _parts(self, task: str, share: Labelled, taps: Sequence[Tap]) -> tuple[int | None, int]:
        """`one_row` and `per_row` from single parts of one row and of half the rows; the sums of `taps` are there."""
        branch = BranchCall(self._graph, task)
        if coupling(branch.head) or (branch.criterion is not None and coupling(branch.criterion)):
            return None, 0
        rows, half = len(share.rows), max(2, (len(share.rows) + 1) // 2)
        one, left, _ = self._run(task, _few(share, 1), None, taps)
        more = self._run(task, _few(share, half), None, taps)[0] if half < rows else one
        return one + left * (rows - 1), -(-max(0, more - one) // (half - 1))  # the losses of all parts stay

    def _taps(self, task: str) -> list[Tap]:
        taps: list[Tap] = []
        for name in self._graph.taps[task]:
            taps.append(Tap(self._values[name], taps))
        return taps

    def _run(self, task: str, share: Labelled, rows: int | None, taps: Sequence[Tap]) -> tuple[int, int, float]:
        """Peak bytes, bytes of the loss that is left, and work."""
        with LiveBytes(self._rounding) as meter, Work(self._cost) as work:
            loss = run_branch(self._graph, BranchRun(task, rows), share, taps, self._batch, None)
            left = loss.untyped_storage().nbytes()
        return meter.peak, left, work.total

    def _run_narrow(self, task: str, share: Labelled, taps: Mapping[str, Tap]) -> tuple[list[_Level], int, float]:
        """What the levels showed, the peak of the branch itself, and all work."""
        branch = NarrowBranch(self._graph, task, share, self._batch)
        places = list(enumerate(self._graph.taps[task]))
        held, pulled = [], []
        with Work(self._cost) as work:
            for place, name in places:
                with LiveBytes(self._rounding) as meter:
                    branch.hold(place, self._values[name])
                    held.append((meter.live, meter.peak))
            with LiveBytes(self._rounding) as meter:
                loss = branch.run({}, None)
                peak = meter.peak
                for place, name in reversed(places):
                    before = meter.peak = meter.live
                    branch.pull(place, taps[name])
                    pulled.append((meter.peak - before, before - meter.live))
                del loss
        return [_Level(*of, *by) for of, by in zip(held, reversed(pulled), strict=True)], peak, work.total


class _Level(NamedTuple):
    """Bytes of one level: held, at most while made; at most more than before while made again, less after that than before."""

    held: int
    hold_peak: int
    rise: int
    freed: int


def _few(share: Labelled, rows: int) -> Labelled:
    """The first rows of a task's share."""
    return Labelled(Labels(share.labels.part(0, rows), share.rows[:rows]), share.rows[:rows], share.divisor)


def may_be_late(graph: Graph, task: str, values: Mapping[str, Any]) -> bool:
    """Whether a branch can run inside the trunk's backward: one tap, that gets a gradient, and parameters of its own.

    Every branch on that tap must be able to, or the order in which gradients are summed would change.
    """
    (tap, *others) = graph.taps[task]
    readers = [reader for reader, taps in graph.taps.items() if tap in taps]
    alone = all(graph.taps[reader] == (tap,) for reader in readers) and not others
    return alone and _wants_gradient(values[tap]) and not any(_shares_parameters(graph, reader) for reader in readers)


def _wants_gradient(value: Any) -> bool:
    return any(leaf.requires_grad for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


def _shares_parameters(graph: Graph, task: str) -> bool:
    own = {id(parameter) for parameter in BranchCall(graph, task).parameters()}
    others = {id(p) for other in graph.branches if other != task for p in BranchCall(graph, other).parameters()}
    return not own.isdisjoint(others | {id(p) for p in graph.trunk.parameters()})
