"""The cheapest schedule for every budget at once: dynamic programming over nested spans.

The class. A schedule is a list of items; an item is a stage kept whole, a stage of which only products are kept, or a span,
which is a list again. All branches of a tap run late, or all at the top; of branches that share taps all run narrow, or none.
Within this class, with sizes that are multiples of the slot and no copies of buffers, what is found is optimal: no schedule
that `simulate` puts within the budget does less work. Outside of it are sequences that drop a value before its span is run
again. Of 1848 pairs of a drawn chain with one tap and a budget, 9 have one that saves work, by 11.5 % at most; none has one
that needs a smaller budget.

The programme follows the one for heterogeneous chains: Beaumont, Eyraud-Dubois, Herrmann, Joly and Shilova, "Optimal
checkpointing for heterogeneous chains" (2019). With m slots free beside all that is held,

    inside(s, t, m): least work to run stages s..t again from value s-1, which is there, and to do their backward;
    top(s, I, m):    least work of the first run of stages s.., of the branches at the top and of the backward of s..,

where I bytes of tapped values lie within spans chosen so far: they are alive until the branches have run. Each takes the best
of keeping stage s, one way or the other, and of closing a span at any p >= s:

    inside(s, t, m) = min( forward_s + backward_s + inside(s+1, t, m - kept_s),
                           forward_s..p + inside(p+1, t, m - value_p) + inside(s, p, m) )

and likewise at the top. An option counts only where m covers the peaks of its own moments (`Needs`). Copies of buffers that a
span holds are left out of what is held: they are few, and `simulate` has the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ubertrain.planning.chain import Chain
from ubertrain.planning.needs import Bytes, Heads, Needs, Work
from ubertrain.planning.schedule import Item, Products, Span

TIE = 1e-12
"""Works that differ by less than this part are equal: sums in another order."""

SINGLE = 100
"""Most stages of which tables are in double precision."""

LEVELS = 64
"""Most values of I per stage; further ones are rounded up."""


class Table:
    """The programme solved for one set of late taps and one of narrow branches.

    Args:
        chain: of L >= 1 stages.
        late: taps whose branches run late.
        slot: bytes of a slot.
        slots: the largest budget. Time is about L**3 * slots / 6, memory L**2 * slots * 4 bytes.
        narrow: the branches that run narrow: all that read a tap, or none.
        heads: the ways to run heads stage by stage that may be chosen.

    Attributes:
        late, slot, narrow: as given.
        steps: (slots, work) wherever one slot more saves work, in rising order of slots.
    """

    def __init__(
        self,
        chain: Chain,
        late: frozenset[int],
        slot: int,
        slots: int,
        narrow: frozenset[str] = frozenset(),
        heads: Heads | None = None,
    ) -> None:
        self.late, self.slot, self.narrow, self._width = late, slot, narrow, slots + 1
        self._names = [stage.name for stage in chain.stages]
        self._needs = needs = Needs(chain, late, narrow, heads)
        self._count = needs.count
        self._clone = _nearest(needs.clone, slot)
        self._hold = np.minimum(_nearest(needs.hold, slot), self._width)
        self._kept = np.diff(self._up(np.cumsum(needs.kept, axis=1)), axis=1, prepend=0)
        self._usual = np.array([np.bincount(column[: p + 1]).argmax() for p, column in enumerate(self._hold.T)])
        # Tables of long chains are large and their slots coarse, so that single precision loses nothing there.
        self._kind = np.float32 if self._count > SINGLE and slot > 1 else np.float64
        self._tie = TIE if self._kind is np.float64 else 1e-6
        self._whole_is_least = bool((needs.kept_work[0] <= needs.kept_work[1]).all())
        self._late_work = {t: self._row(ways.steps) for t, ways in needs.late.items() if len(ways.steps) > 1}
        self._buffer = np.empty((self._count, self._width), self._kind)
        self._solve_inside()
        self._levels = _levels(needs)
        self._solve_top()
        del self._buffer
        self.steps = _steps(self._top[0], self._tie)

    def schedule(self, slots: int) -> tuple[tuple[Item, ...], dict[str, tuple[Item, ...]]]:
        """The cheapest trunk that the programme finds for `slots` slots, which must be enough, and the heads not run as one."""
        items: list[Item] = []
        heads: dict[str, tuple[Item, ...]] = {}
        s, level, m = 0, 0, slots
        while s < self._count:
            taken, rest = self._levels[s][level], self._after[s][level]
            options = self._ways_at(s, m, self._top_keep(s, taken))
            works = [work + self._behind[rest[0], m - hold] if work < np.inf else np.inf for work, hold in options]
            left = m - self._hold[s, s:]
            fits = (self._top_spans(s, taken) <= m) & (left >= 0)
            spans = np.where(fits, self._again[s, s:, m] + self._behind[rest, np.maximum(left, 0)], np.inf)
            choice = _first([*works, *spans], self._tie)
            if choice < len(works):
                items.append(self._item(s, choice))
                p, m = s, m - options[choice][1]
            else:
                p = s + choice - len(works)
                items.append(Span(self._inside(s, p, m - int(self._clone[s]), heads)))
                m = int(left[p - s])
            heads |= self._late_heads(p, m)
            s, level = p + 1, rest[p - s] - self._starts[p + 1]
        taken = self._levels[s][level]
        return tuple(items), heads | self._needs.top.heads(lambda need: int(self._up(taken + need)) <= m)

    def _inside(self, s: int, t: int, m: int, heads: dict[str, tuple[Item, ...]]) -> tuple[Item, ...]:
        """The items of a span from s to t that is recomputed with m slots free; how late branches run is put into `heads`."""
        items: list[Item] = []
        forward = self._needs.again
        while s < t:
            options = self._ways_at(s, m, self._inside_keep(s, t).tolist())
            later = forward[s + 1, t]
            works = [
                work + self._again[s + 1, t, m - hold] - later + self._late_at(s, m - hold) if work < np.inf else np.inf
                for work, hold in options
            ]
            left = m - self._hold[s, s:t]
            fits = (self._inside_spans(s, t)[s:] <= m) & (left >= 0)
            rest = self._again[np.arange(s + 1, t + 1), t, np.maximum(left, 0)] - forward[s + 1 : t + 1, t]
            rest += [self._late_at(p, max(int(free), 0)) for p, free in enumerate(left, start=s)]
            choice = _first([*works, *np.where(fits, self._again[s, s:t, m] + rest, np.inf)], self._tie)
            if choice < len(works):
                items.append(self._item(s, choice))
                p, m = s, m - options[choice][1]
            else:
                p = s + choice - len(works)
                items.append(Span(self._inside(s, p, m - int(self._clone[s]), heads)))
                m = int(left[p - s])
            heads |= self._late_heads(p, m)
            s = p + 1
        return (*items, self._names[t])

    def _late_at(self, tap: int, m: int) -> float:
        """What late branches of a tap do more than as one, with m slots free beside it."""
        return float(self._late_work[tap][m]) if tap in self._late_work else 0.0

    def _late_heads(self, tap: int, m: int) -> dict[str, tuple[Item, ...]]:
        return self._needs.late[tap].heads(lambda need: int(self._up(need)) <= m) if tap in self._needs.late else {}

    def _row(self, steps: Sequence[tuple[int, float]]) -> Work:
        """Work by free slots; below the first step that of the first, as needs are looked at elsewhere."""
        row = np.full(self._width, steps[0][1])
        for need, work in steps:
            row[self._up(need) :] = work
        return row

    def _item(self, s: int, way: int) -> Item:
        return Products(self._names[s]) if way else self._names[s]

    def _ways_at(self, s: int, m: int, needs: Sequence[int]) -> list[tuple[float, int]]:
        """(work, slots held) of each way to keep stage s; infinite work where m is not enough."""
        options = zip(self._needs.kept_work[:, s].tolist(), self._kept[:, s].tolist(), needs, strict=True)
        return [(work if m >= max(need, hold) else np.inf, hold) for work, hold, need in options]

    def _solve_inside(self) -> None:
        """`_again[s, p]`: forward of s..p and `inside(s, p, m)` for all m; `_least[s, p]`: the fewest slots it can do with."""
        needs, count = self._needs, self._count
        self._again = np.empty((count, count, self._width), self._kind)
        self._least = np.full((count, count), self._width)
        rows, shifted = np.empty((2, count, self._width), self._kind)
        behind = np.empty_like(rows) if self._late_work else rows  # the same with the late branches of the stage before
        for t in range(count):
            rows[t] = np.inf
            enough = int(self._up(needs.tail_need[t]))  # slots that suffice to keep all from s on, so that no span pays
            rows[t, enough:] = needs.tail_work[t]
            keep_needs, span_needs = self._inside_keep(slice(t), t).T.tolist(), self._inside_spans(slice(t), t)
            for s in range(t, -1, -1):
                if s < t:
                    rows[s] = np.inf
                    for way, need in enumerate(keep_needs[s]):
                        self._keep(rows[s], behind[s + 1], way, s, need)
                    enough = max(enough, self._free_of_work(s)) + int(self._kept[0, s])
                    enough = max(keep_needs[s][0], enough) if self._whole_is_least else self._width
                    self._close(rows[s, :enough], s, span_needs[s, s:], behind[s + 1 :], shifted[s + 1 : t + 1, :enough])
                self._least[s, t] = np.count_nonzero(rows[s] == np.inf)
                if s:
                    if self._late_work:
                        np.add(rows[s], self._late_work.get(s - 1, 0.0), out=behind[s])
                    _shift(behind[s], self._usual[s - 1], out=shifted[s])
            np.add(rows[: t + 1], needs.again[: t + 1, t, None], out=self._again[: t + 1, t])
            for begin in np.flatnonzero(self._clone[: t + 1]).tolist():
                self._again[begin, t] = _shift(self._again[begin, t], self._clone[begin])
                self._least[begin, t] = min(self._least[begin, t] + self._clone[begin], self._width)

    def _solve_top(self) -> None:
        """`_top[row]`: `top(s, I, m)` for all m; those of stage s begin at `_starts[s]`, one for each value of I."""
        needs, count, levels = self._needs, self._count, self._levels
        self._starts = np.cumsum([0, *map(len, levels)])
        self._after = [self._next(s) for s in range(count)]
        self._top, shifted = np.full((2, self._starts[-1], self._width), np.inf, self._kind)
        self._behind = np.empty_like(self._top) if self._late_work else self._top
        for row, taken in zip(self._top[self._starts[count] :], levels[count], strict=True):
            for need, work in needs.top.steps:
                row[self._up(taken + need) :] = needs.branch_work + work
        for s in range(count, -1, -1):
            for level, taken in enumerate(levels[s] if s < count else ()):
                row, rest = self._top[self._starts[s] + level], self._after[s][level]
                for way, need in enumerate(self._top_keep(s, taken)):
                    self._keep(row, self._behind[rest[0]], way, s, need)
                self._close(row, s, self._top_spans(s, taken), self._behind[rest], shifted[rest])
            for place in range(self._starts[s], self._starts[s + 1] if s else 0):
                if self._late_work:
                    np.add(self._top[place], self._late_work.get(s - 1, 0.0), out=self._behind[place])
                _shift(self._behind[place], self._usual[s - 1], out=shifted[place])

    def _free_of_work(self, tap: int) -> int:
        """Slots free beside a tap with which its late branches do no more than as one."""
        return int(self._up(self._needs.late[tap].steps[-1][0])) if tap in self._late_work else 0

    def _next(self, s: int) -> NDArray[np.intp]:
        """[level, p - s] the row of `_top` behind a span from s to p."""
        after = self._levels[s][:, None] + self._needs.inside[s, None, s:]
        columns = zip(self._levels[s + 1 :], after.T, self._starts[s + 1 :], strict=False)
        return np.array([start + np.searchsorted(levels, new) for levels, new, start in columns]).T

    def _keep(self, best: Work, rest: Work, way: int, s: int, need: int) -> None:
        """Lower `best` to what keeping stage s costs, where that is less."""
        hold, work = int(self._kept[way, s]), self._needs.kept_work[way, s]
        start = max(need, hold)
        if work < np.inf and start < self._width:
            np.minimum(best[start:], rest[start - hold : self._width - hold] + work, out=best[start:])

    def _close(self, best: Work, s: int, need: Bytes, rest: Work, shifted: Work) -> None:
        """Lower `best` to the cheapest span that begins at s and ends at p = s, s + 1, ...

        Args:
            best: [slots].
            s: the stage.
            need: slots without which a span must not be closed, for each p.
            rest: [p, slots] work of all behind the span.
            shifted: [p, slots] the same with the usual size of value p taken off the slots.
        """
        size, stop = len(need), len(best)
        holds = self._hold[s, s : s + size]
        least = np.maximum(self._least[s, s : s + size], holds)
        first = int(np.maximum(need, least).min())
        if first >= stop:
            return
        works = self._buffer[:size, first:stop]
        np.add(self._again[s, s : s + size, first:stop], shifted[:, first:], out=works)
        for place in np.flatnonzero(holds != self._usual[s : s + size]):
            works[place] = self._again[s, s + place, first:stop] + _shift(rest[place], int(holds[place]))[first:stop]
        for place in np.flatnonzero(need > least):
            works[place, : max(0, need[place] - first)] = np.inf
        np.minimum(best[first:], works.min(axis=0), out=best[first:])

    def _inside_keep(self, s: int | slice, t: int) -> Bytes:
        """[way] or [way, s] slots without which stage s must not be kept in a span that ends with t."""
        needs = self._needs
        running = needs.around[t] + needs.copies[s, t] + needs.forward_peak[:, s]
        return self._up(np.maximum(running, np.maximum(needs.backward_need[:, s], needs.late_kept[:, s])))

    def _inside_spans(self, s: int | slice, t: int) -> Bytes:
        """[p] or [s, p] slots without which no span from s to p must be closed in one that ends with t; nothing where p < s."""
        needs = self._needs
        around = needs.around[t] + needs.copies[s, t, None]
        return self._up(np.maximum(around + needs.pass_again[s, :t], needs.late_held[s, :t]))

    def _top_keep(self, s: int, taken: int) -> list[int]:
        needs = self._needs
        need = np.maximum(needs.backward_need[:, s], needs.late_kept[:, s])
        return cast(list[int], self._up(np.maximum(taken + needs.first_kept[:, s], need)).tolist())

    def _top_spans(self, s: int, taken: int) -> Bytes:
        return self._up(np.maximum(taken + self._needs.pass_first[s, s:], self._needs.late_held[s, s:]))

    def _up(self, size: Bytes | int) -> Bytes:
        """Bytes as slots, rounded up."""
        return -(-np.asarray(size) // self.slot)


def _levels(needs: Needs) -> list[Bytes]:
    """For each stage, and the end, the values of I that can be reached there, rising; what starts the backward is in them."""
    reached: list[set[int]] = [set() for _ in range(needs.count + 1)]
    reached[0] = {needs.starts}
    levels = []
    for s, values in enumerate(reached):
        levels.append(_thin(values))
        for p in range(s, needs.count):
            reached[p + 1].update((levels[s] + needs.inside[s, p]).tolist())
        if s < needs.count:
            reached[s + 1].update(levels[s].tolist())
    return levels


def _thin(values: Iterable[int]) -> Bytes:
    """At most `LEVELS` of the values, rising, the largest among them: others are rounded up to the next."""
    ordered = np.array(sorted(values), np.int64)
    if len(ordered) <= LEVELS:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, LEVELS).round().astype(int)]


def _nearest(sizes: Bytes, slot: int) -> Bytes:
    """Sizes as slots, rounded; what is not nothing takes one at least."""
    return np.maximum((sizes + slot // 2) // slot, sizes > 0)


def _shift(row: Work, by: int, out: Work | None = None) -> Work:
    """`row` moved right by `by` slots; infinite before."""
    out = np.empty_like(row) if out is None else out
    by = min(int(by), len(row))
    out[:by] = np.inf
    out[by:] = row[: len(row) - by]
    return out


def _steps(row: Work, tie: float) -> list[tuple[int, float]]:
    steps: list[tuple[int, float]] = []
    for m in np.flatnonzero(row < np.concatenate([[np.inf], row[:-1]])):
        work = float(row[m])
        if not steps or work < steps[-1][1] - tie * abs(work):
            steps.append((int(m), work))
    return steps


def _first(works: Sequence[float], tie: float) -> int:
    """The first of the cheapest: what is kept whole stands before what is kept in part, and that before spans."""
    array = np.asarray(works)
    best = array.min()
    assert best < np.inf, "the programme promised a schedule here"
    return int(np.flatnonzero(array <= best + tie * abs(best))[0])
