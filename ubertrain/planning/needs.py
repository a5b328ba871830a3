"""What each step of the optimal programme needs beside the values it holds: one chain, one set of late taps, bytes and work.

A step of the programme either keeps a stage or closes a span. What it holds from there to its own backward is counted by the
programme; all else that is alive at a moment (peaks, tap gradients, losses, copies of buffers) depends on the place in the
chain alone and is summed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ubertrain.planning.chain import BranchCost, Chain, Keeping

Bytes = NDArray[np.int64]
Work = NDArray[np.float64]


_ABSENT = Keeping(0, 0, 0, np.inf)


class Needs:
    """Sums over a chain of L stages.

    Attributes:
        count: L.
        kept, forward_peak: [way, s] of keeping stage s, way 0 whole and way 1 its products.
        backward_need: [way, s] most bytes during its backward beside what is held.
        kept_work: [way, s] forward and backward; infinite where a stage does not allow it.
        hold: [s, p] bytes of the value that a span from s to p ends with.
        again: [s, p] work of running s to p forward.
        inside: [s, p] bytes of the values tapped at the top in a span from s to p, before its end.
        pass_first: [s, p] most bytes while a span from s to p runs for the first time.
        pass_again: [s, p] the same while it is run again within another.
        around: [t] bytes around a span that ends with stage t while it is recomputed: tap gradients, losses.
        copies: [s, t] copies of buffers of s to t.
        tail_need, tail_work: [t] of stage t, run again as the last of its span, and its backward.
        late_kept: [way, s] most bytes during the late branches of tap s, if stage s is kept; 0 where none are late.
        late_held: [s, p] most bytes during those of tap p, if a span from s to p is held.
        starts: bytes that are there from the start to the end.
        top_need: most bytes during the branches that run at the top, beside all that is held.
        branch_work: of all branches.
    """

    def __init__(self, chain: Chain, late: Iterable[int]) -> None:
        stages, self.count = chain.stages, len(chain.stages)
        late = set(late)
        top = [branch for branch in chain.branches if not (branch.may_be_late and set(branch.taps) <= late)]
        tapped = sorted({tap for branch in top for tap in branch.taps})
        lefts = np.zeros(self.count + 1, np.int64)
        for branch in chain.branches:
            lefts[branch.taps[0] if branch not in top else self.count] += branch.left
        gradients = np.array([stages[t].gradient if t in tapped else 0 for t in range(self.count)], np.int64)
        # When the trunk's backward has reached stage t, late branches of taps from t on have left their losses.
        before = np.cumsum(lefts[::-1])[::-1][: self.count] + chain.starts + np.cumsum(gradients) - gradients
        copied = np.concatenate([[0], np.cumsum([stage.noted for stage in stages])]).astype(np.int64)
        forward = np.concatenate([[0.0], np.cumsum([stage.forward for stage in stages])])
        self.hold = _holds(chain)
        self.again = forward[None, 1:] - forward[:-1, None]
        self.copies = np.maximum(copied[None, 1:] - copied[:-1, None], 0)
        self.inside = _inside(self.hold, tapped)
        self.pass_again = self._passes(chain, set(), self.copies)
        self.pass_first = self._passes(chain, set(tapped), self.copies)
        self.around = before + _array(stage.pending for stage in stages)
        meeting = _array(stage.meeting if number - 1 in tapped else 0 for number, stage in enumerate(stages))
        self.tail_need = before + meeting + _array(stage.tail_peak + stage.noted for stage in stages)
        self.tail_work = np.array([stage.partial + stage.whole.backward for stage in stages])
        keepings = [[stage.whole for stage in stages], [stage.products or _ABSENT for stage in stages]]
        self.kept = np.array([[keeping.kept for keeping in way] for way in keepings])
        self.forward_peak = np.array([[keeping.forward_peak for keeping in way] for way in keepings])
        self.backward_need = before + meeting + np.array([[keeping.backward_peak for keeping in way] for way in keepings])
        self.kept_work = np.array([[keeping.backward for keeping in way] for way in keepings]) + np.diff(forward)
        late_need = _array(
            before[t] - lefts[t] + _run_need(chain, [b for b in chain.branches if b not in top and b.taps == (t,)], at=t)
            for t in range(self.count)
        )
        is_late = _array(t in late for t in range(self.count))
        self.late_kept, self.late_held = (late_need + self.kept) * is_late, (late_need + self.hold) * is_late
        self.starts = chain.starts
        self.top_need = _run_need(chain, top)
        self.branch_work = float(sum(branch.work for branch in chain.branches))

    def _passes(self, chain: Chain, tapped: set[int], copies: Bytes) -> Bytes:
        """[s, p] running maximum over k = s..p of the bytes while stage k of the span runs."""
        need = np.zeros((self.count, self.count), np.int64)
        for s in range(self.count):
            held = 0  # values of taps inside
            for k in range(s, self.count):
                last = 0
                if k > s:
                    value = int(self.hold[s, k - 1])
                    held, last = (held + value, 0) if k - 1 in tapped else (held, value)
                need[s, k] = held + last + copies[s, k] + chain.stages[k].pass_peak
        return np.maximum.accumulate(need, axis=1)


def smallest_peak(branch: BranchCost, fresh: int, total: int) -> int:
    """Fewest bytes that a branch can run with, whole or one row at a time."""
    whole = branch.peak(None, fresh=fresh, total=total)
    return whole if branch.one_row is None else min(whole, branch.peak(1, fresh=fresh, total=total))


def _run_need(chain: Chain, branches: list[BranchCost], at: int | None = None) -> int:
    """Most bytes while branches run last to first, with the sums and losses that they leave; `at`: late, at this tap."""
    coming = 0 if at is None or at == len(chain.stages) - 1 else chain.stages[at].gradient
    sums: set[int] = set()
    held = need = 0
    for branch in reversed(branches):
        fresh = sum(chain.stages[tap].gradient for tap in branch.taps if tap not in sums)
        total = sum(chain.stages[tap].gradient for tap in branch.taps)
        need = max(need, held + coming + smallest_peak(branch, fresh, total))
        sums |= set(branch.taps)
        held += fresh + branch.left
    return need


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
