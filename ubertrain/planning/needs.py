"""What each step of the optimal programme needs beside the values it holds: one chain, one choice of late taps
and narrow branches, bytes and work.

A step of the programme either keeps a stage or closes a span. What it holds from there to its own backward is counted by the
programme; all else that is alive at a moment (peaks, tap gradients, losses, copies of buffers) depends on the place in the
chain alone and is summed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ubertrain.planning.chain import BranchCost, Chain, Keeping, NarrowCost, Narrowed
from ubertrain.planning.schedule import Item
from ubertrain.planning.ways import Way, Ways

Bytes = NDArray[np.int64]
Work = NDArray[np.float64]


class Staged(NamedTuple):
    """A head that runs stage by stage, and what its branch costs then."""

    head: tuple[Item, ...]
    cost: BranchCost


Heads = Mapping[str, Sequence[Staged]]
"""Task -> ways to run its head stage by stage."""

_ABSENT = Keeping(0, 0, 0, np.inf)


class Needs:
    """Sums over a chain of L stages.

    Attributes:
        count: L.
        kept, forward_peak: [way, s] of keeping stage s, way 0 whole and way 1 its products.
        backward_need: [way, s] most bytes during its backward beside what is held.
        kept_work: [way, s] forward and backward; infinite where a stage does not allow it.
        clone: [s] bytes that a span which begins with s holds while it is recomputed.
        hold: [s, p] bytes of the value that a span from s to p ends with.
        again: [s, p] work of running s to p forward.
        inside: [s, p] bytes of the values tapped at the top in a span from s to p, before its end.
        pass_first: [s, p] most bytes while a span from s to p runs for the first time.
        pass_again: [s, p] the same while it is run again within another.
        around: [t] bytes around a span that ends with stage t while it is recomputed: tap gradients, losses.
        copies: [s, t] copies of buffers of s to t.
        tail_need, tail_work: [t] of stage t, run again as the last of its span, and its backward.
        late_kept: [way, s] most bytes while tap s is read late, by late or narrow branches, if stage s is kept; 0 if it is not.
        late_held: [s, p] most bytes while tap p is, if a span from s to p is held.
        first_kept: [way, s] most bytes while stage s runs for the first time, what narrow branches hold of taps included.
        starts: bytes that are there from the start to the end.
        top: what the branches at the top need beside all that is held.
        late: tap -> what the branches that read it late need, beside its stage or the span that ends there.
        branch_work: of all branches, if their heads run as one.
    """

    def __init__(self, chain: Chain, late: Iterable[int], narrow: Iterable[str] = (), heads: Heads | None = None) -> None:
        stages, self.count = chain.stages, len(chain.stages)
        late = set(late)
        reads = _Reads(chain, set(narrow), heads or {})
        top = [branch for branch in chain.branches if not (branch.may_be_late and set(branch.taps) <= late)]
        tapped = sorted({tap for branch in top if not reads.narrow(branch) for tap in branch.taps})
        lefts = np.zeros(self.count + 1, np.int64)
        for branch in chain.branches:
            lefts[branch.taps[0] if branch not in top else self.count] += branch.left
        gradients = np.array([stages[t].gradient if t in tapped else 0 for t in range(self.count)], np.int64)
        # When the trunk's backward has reached stage t, late branches of taps from t on have left their losses.
        before = np.cumsum(lefts[::-1])[::-1][: self.count] + chain.starts + _before(gradients + reads.gradients)
        copied = np.concatenate([[0], np.cumsum([stage.noted for stage in stages])]).astype(np.int64)
        forward = np.concatenate([[0.0], np.cumsum([stage.forward for stage in stages])])
        self.hold = _holds(chain)
        self.again = forward[None, 1:] - forward[:-1, None]
        self.copies = np.maximum(copied[None, 1:] - copied[:-1, None], 0)
        self.inside = _inside(self.hold, tapped)
        self.pass_again = self._passes(chain, set(), self.copies)
        self.pass_first = self._passes(chain, set(tapped), self.copies, reads)
        self.around = before + _array(stage.pending for stage in stages)
        meeting = _array(stage.meeting if number - 1 in tapped else 0 for number, stage in enumerate(stages))
        self.tail_need = before + meeting + _array(stage.tail_peak + stage.noted for stage in stages)
        self.tail_work = np.array([stage.partial + stage.whole.backward for stage in stages])
        keepings = [[stage.whole for stage in stages], [stage.products or _ABSENT for stage in stages]]
        self.kept = np.array([[keeping.kept for keeping in way] for way in keepings])
        self.forward_peak = np.array([[keeping.forward_peak for keeping in way] for way in keepings])
        self.backward_need = before + meeting + np.array([[keeping.backward_peak for keeping in way] for way in keepings])
        self.kept_work = np.array([[keeping.backward for keeping in way] for way in keepings]) + np.diff(forward)
        self.first_kept = self.forward_peak + _before(reads.held)
        self.first_kept = np.maximum(self.first_kept, (self.kept + reads.hold_need) * (reads.hold_need > 0))
        self.late = {
            t: reads.late(t, [b for b in chain.branches if b not in top and b.taps == (t,)], int(before[t] - lefts[t]))
            for t in range(self.count)
            if t in late or reads.narrowed[t]
        }
        late_need = _array(self.late[t].steps[0][0] if t in self.late else 0 for t in range(self.count))
        is_late = _array(t in self.late for t in range(self.count))
        self.late_kept, self.late_held = (late_need + self.kept) * is_late, (late_need + self.hold) * is_late
        self.clone = _array(stage.clone for stage in stages)
        self.starts = chain.starts
        self.top = reads.top(top)
        self.branch_work = float(sum(branch.work for branch in chain.branches) + reads.work)

    def _passes(self, chain: Chain, tapped: set[int], copies: Bytes, reads: _Reads | None = None) -> Bytes:
        """[s, p] running maximum over k = s..p of the bytes while stage k of the span runs; `reads` in the first run."""
        below = np.zeros(self.count, np.int64) if reads is None else _before(reads.held)
        need = np.zeros((self.count, self.count), np.int64)
        for s in range(self.count):
            held = 0  # values of taps inside
            for k in range(s, self.count):
                last = 0
                if k > s:
                    value = int(self.hold[s, k - 1])
                    held, last = (held + value, 0) if k - 1 in tapped else (held, value)
                clone = chain.stages[k].clone if k == s else 0
                need[s, k] = held + last + copies[s, k] + chain.stages[k].pass_peak + clone + below[k]
                if reads is not None and reads.hold_need[k]:
                    need[s, k] = max(need[s, k], held + copies[s, k] + self.hold[s, k] + reads.hold_need[k])
        return np.maximum.accumulate(need, axis=1)


def smallest_peak(branch: BranchCost, fresh: int, total: int) -> int:
    """Fewest bytes that a branch can run with, whole or one row at a time."""
    whole = branch.peak(None, fresh=fresh, total=total)
    return whole if branch.one_row is None else min(whole, branch.peak(1, fresh=fresh, total=total))


class _Reads:
    """When and how the branches of a chain read their taps, some of them narrow.

    Attributes:
        held, gradients: [t] bytes that narrow branches hold of tap t, and those of the gradients of that.
        narrowed: [t] whether they read it.
        hold_need: [t] most bytes while that is made, what they hold of earlier taps included; 0 if they do not read it.
        work: what narrow branches do more.
    """

    def __init__(self, chain: Chain, narrow: set[str], heads: Heads) -> None:
        self._heads = heads
        self._chain, self._narrow = chain, {branch.task: branch.narrow for branch in chain.branches if branch.task in narrow}
        count = len(chain.stages)
        levels = [[level for branch in chain.branches for level in self._levels(branch, t)] for t in range(count)]
        self.held = _array(sum(level.held for level in found) for found in levels)
        self.gradients = _array(sum(level.gradient for level in found) for found in levels)
        self.narrowed = [bool(found) for found in levels]
        self.hold_need = np.zeros(count, np.int64)
        held = 0
        for t, found in enumerate(levels):
            for level in found:
                self.hold_need[t] = max(self.hold_need[t], held + level.hold_peak)
                held += level.held
        self.work = sum(cost.work for cost in self._narrow.values() if cost)

    def narrow(self, branch: BranchCost) -> NarrowCost | None:
        """What a branch costs that runs narrow; None if it does not."""
        return self._narrow.get(branch.task)

    def top(self, branches: list[BranchCost]) -> Ways:
        """What the branches at the top need, last to first, with the sums, losses and gradients that they leave."""
        gradients = [stage.gradient for stage in self._chain.stages]
        held, sums, found = int(self.held.sum()), set[int](), list[tuple[str, list[Way]]]()
        for branch in reversed(branches):
            fresh = sum(gradients[tap] for tap in branch.taps if tap not in sums)
            if narrow := self.narrow(branch):
                found.append((branch.task, [Way(held + narrow.peak, 0.0)]))
                held += branch.left + narrow.gradient - narrow.held
            else:
                found.append((branch.task, self._ways(branch, held, fresh, sum(gradients[tap] for tap in branch.taps))))
                held += branch.left + fresh
                sums |= set(branch.taps)
        return Ways(found)

    def late(self, tap: int, late: list[BranchCost], before: int) -> Ways:
        """What is needed while a tap is read late, by the `late` branches and the narrow ones: its gradient, sums and losses.

        Args:
            tap: its number.
            late: the branches that run then.
            before: bytes that are there besides.
        """
        gradient = self._chain.stages[tap].gradient
        held, fresh, read, found = before + int(self.gradients[tap]), gradient, False, list[tuple[str, list[Way]]]()
        coming = 0 if tap == len(self._chain.stages) - 1 else gradient
        for branch in reversed(self._chain.branches):
            for level in reversed(self._levels(branch, tap)):
                held -= level.gradient
                found.append((branch.task, [Way(held + coming + (level.later_peak if read else level.first_peak), 0.0)]))
                held, fresh, read = held + fresh, 0, True
            if branch in late:
                found.append((branch.task, self._ways(branch, held + coming, fresh, gradient)))
                held, fresh, read = held + fresh + branch.left, 0, True
        return Ways(found)

    def _ways(self, branch: BranchCost, held: int, fresh: int, total: int) -> list[Way]:
        """How a branch may run beside `held` bytes; as one first."""
        whole = Way(held + smallest_peak(branch, fresh, total), 0.0)
        staged = self._heads.get(branch.task, ())
        return [whole, *(Way(held + smallest_peak(s.cost, fresh, total), s.cost.work - branch.work, s.head) for s in staged)]

    def _levels(self, branch: BranchCost, tap: int) -> list[Narrowed]:
        narrow = self.narrow(branch)
        return [level for place, level in zip(branch.taps, narrow.levels, strict=True) if place == tap] if narrow else []


def _before(sizes: Bytes) -> Bytes:
    """For each place the sum of those before it."""
    return np.cumsum(sizes) - sizes


def _holds(chain: Chain) -> Bytes:
    """[s, p] bytes of value p made by stage s or later."""
    count = len(chain.stages)
    hold = np.zeros((count, count), np.int64)
    for p, stage in enumerate(chain.stages):
        for maker, size in stage.output:
            hold[: maker + 1, p] += size
    return hold


def _inside(hold: Bytes, tapped: list[int]) -> Bytes:
    values = np.zeros_like(hold)
    values[:, tapped] = np.triu(hold)[:, tapped]
    return np.cumsum(values, axis=1) - values


def _array(values: Iterable[Any]) -> Bytes:
    return np.fromiter(values, np.int64)
