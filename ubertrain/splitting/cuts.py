"""Where a list of operations can be cut into stages, decided on numbers alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True)
class Step:
    """One operation, by the places of others in the list.

    Attributes:
        reads: the steps whose values it takes.
        aliases: the steps whose memory its value may share.
        writes: the steps whose values it overwrites.
        product: it is a convolution, a matrix product or a module kept whole: what stages are made around.
        view: it computes nothing.
        light: it computes, but its backward needs none of the values, like a sum's.
        size: its value is no tensor.
        constant: its value is an attribute, which every stage can read anew.
        part: it takes its value out of a tuple that the step before returned.
    """

    reads: tuple[int, ...] = ()
    aliases: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    product: bool = False
    view: bool = False
    light: bool = False
    size: bool = False
    constant: bool = False
    part: bool = False


class Cuts:
    """The possible cuts of a list of steps; the cut `i` is between step `i` and step `i + 1`.

    Args:
        steps: in order of execution.
        outputs: the steps whose values are the result.
        taps: steps whose values must stand at a cut right behind them (or at the end).
    """

    def __init__(self, steps: Sequence[Step], outputs: Collection[int], taps: Collection[int] = ()) -> None:
        self._steps = steps
        self._end = len(steps) - 1
        self._taps = set(taps)
        self._last = list(range(len(steps)))
        for place, step in enumerate(steps):
            for read in step.reads:
                self._last[read] = place
        for place in outputs:
            self._last[place] = len(steps)
        for place in self._taps:
            self._last[place] = max(self._last[place], place + 1)
        self._closed = _overwritten(steps)
        self._open = self._counts()

    def crossing(self, cut: int) -> list[int]:
        """The steps whose values are needed behind the cut: a tap right before it first, then in order."""
        live = [i for i in range(cut + 1) if self._last[i] > cut and not self._steps[i].constant]
        return sorted(live, key=lambda i: (not (i == cut and i in self._taps), i))

    def overwriter(self, cut: int) -> int | None:
        """The step after the cut that writes into a value made before it; nothing may be cut between the two."""
        return self._closed[cut]

    def choose(self, *, finer: bool) -> list[int]:
        """The cuts to make.

        Between single tensors, as late as each stage holds one product and what follows it; and behind taps. With `finer`,
        also right behind every product, or behind what overwrites its result, unless what follows up to the next cut keeps
        nothing: a recompute that stops at the product's input would then have to go on to the product for no one.
        """
        whole = self._grouped()
        if not finer:
            return whole
        cuts = sorted({*whole, *self._after_products()})
        nothing = {first for first, second in pairwise([*cuts, self._end]) if self._is_idle(first, second)}
        return sorted(set(cuts) - nothing | set(whole))

    def _counts(self) -> list[int]:
        """How many tensors cross each cut."""
        changes = [0] * (len(self._steps) + 2)
        for place, step in enumerate(self._steps):
            if not step.constant and not step.size:
                changes[place] += 1
                changes[self._last[place]] -= 1
        return list(accumulate(changes))

    def _grouped(self) -> list[int]:
        single = {cut for cut in range(self._end) if self._open[cut] == 1 and self._closed[cut] is None}
        forced = {tap for tap in self._taps if tap < self._end}
        cuts: list[int] = []
        before, full = -1, False
        for point in (*sorted(single | forced), self._end):
            works = any(step.product for step in self._steps[before + 1 : point + 1])
            if works and full:
                cuts.append(before)
            full = (full or works) and point not in forced
            if point in forced:
                cuts.append(point)
            before = point
        return cuts

    def _after_products(self) -> list[int]:
        cuts = []
        for place, step in enumerate(self._steps):
            if step.product:
                cut = place
                while cut < self._end and (self._closed[cut] is not None or self._steps[cut + 1].part):
                    cut += 1
                    if self._steps[cut].product:
                        break
                else:
                    cuts.append(cut)
        return [cut for cut in cuts if cut < self._end and self._open[cut] > 0]

    def _is_idle(self, first: int, second: int) -> bool:
        return all(step.view or step.light for step in self._steps[first + 1 : second + 1])


def _overwritten(steps: Sequence[Step]) -> list[int | None]:
    """Cut -> the first step after it that overwrites memory made before it."""
    group = list(range(len(steps)))

    def find(place: int) -> int:
        while group[place] != place:
            group[place] = group[group[place]]
            place = group[place]
        return place

    for place, step in enumerate(steps):
        for other in step.aliases:
            group[find(place)] = find(other)
    first: dict[int, int] = {}
    for place in range(len(steps)):
        first.setdefault(find(place), place)
    closed: list[int | None] = [None] * len(steps)
    for place, step in enumerate(steps):
        for target in step.writes:
            for cut in range(first[find(target)], place):
                closed[cut] = place if closed[cut] is None else closed[cut]
    return closed
