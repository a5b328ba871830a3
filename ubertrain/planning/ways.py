"""Ways to run branches at one moment of a step: less memory for more work, each branch by itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ubertrain.planning.schedule import Item


class Way(NamedTuple):
    """One way to run a branch: bytes that it needs, work that it does more than as one, and how its head runs."""

    need: int
    work: float
    head: tuple[Item, ...] = ()


class Ways:
    """How the branches that run one after the other at one moment may run.

    Args:
        of: task -> its ways; the first does no work more than any other.

    Attributes:
        steps: (bytes, work) of all branches together wherever more bytes save work, in rising order of bytes.
    """

    def __init__(self, of: Iterable[tuple[str, Sequence[Way]]]) -> None:
        self._fronts = [(task, _unbeaten(ways)) for task, ways in of]
        least = max((front[0].need for _, front in self._fronts), default=0)
        needs = sorted({least, *(way.need for _, front in self._fronts for way in front if way.need > least)})
        self.steps: list[tuple[int, float]] = []
        for need in needs:
            work = sum(front[bisect_right(front, need, key=lambda way: way.need) - 1].work for _, front in self._fronts)
            if not self.steps or work < self.steps[-1][1]:
                self.steps.append((need, work))

    def heads(self, fits: Callable[[int], bool]) -> dict[str, tuple[Item, ...]]:
        """How each head runs that does not run as one: with the least work that fits, or with the fewest bytes.

        Args:
            fits: whether there is room for so many bytes.
        """
        chosen = {task: next((way for way in reversed(front) if fits(way.need)), front[0]).head for task, front in self._fronts}
        return {task: head for task, head in chosen.items() if head}


def _unbeaten(ways: Sequence[Way]) -> list[Way]:
    """Those that no other beats in both, rising in bytes and falling in work; the first way stays if it does the least work."""
    best: list[Way] = []
    for way in sorted(ways, key=lambda way: (way.need, way.work)):
        if not best or way.work < best[-1].work or way is ways[0]:
            best.append(way)
    return best
