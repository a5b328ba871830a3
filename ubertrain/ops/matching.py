"""Pixels of maps matched one to one with those of a drawing, within a radius: as many pairs as there can be, near ones first.

Many maps are matched at once. Every step below is a few numpy operations over all of them, so that what a path search costs
in Python is paid once for a hundred thresholds.
"""

from collections.abc import Iterator

import numpy as np

_LOOKUPS = 1 << 21
"""Pairs of a pixel and a place near it that are looked at together, and places in the maps that are; bounds the memory."""


def matched(maps: np.ndarray, drawn: np.ndarray, radius: float) -> np.ndarray:
    """Which pixels of each map have a partner in the drawing; a pixel on either side has one partner at most.

    This is the correspondence of the BSDS benchmark (Martin, Fowlkes and Malik, PAMI 2004, appendix B). It takes the cheapest
    assignment, where a pair costs its distance and a pixel without partner a hundred times the radius, and it takes it from a
    random selection of the pairs. As leaving pixels alone costs so much, that is about a matching of the greatest size. Here
    the size is exactly the greatest: pairs are taken by increasing distance, then alternating paths that add a pair are
    followed from all single pixels at once until there is none. The sum of distances is near the least one, not always the
    least. On BSDS500 the benchmark's own figures differ as much between two of its runs as they do from these.

    Args:
        maps: (N, height, width) bool.
        drawn: (height, width) bool.
        radius: the largest distance of a pair, in pixels.

    Returns:
        (N, height, width) bool; as many pixels of the drawing have a partner in a map as are set in its part of the result.
    """
    hits = np.zeros(maps.shape, bool)
    field = _Field(drawn, radius)
    if not field.count:
        return hits
    maps = maps & field.near
    for part in _parts(maps, len(field.steps)):
        pairs = _Pairs(maps[part], field)
        pairs.take_nearest()
        pairs.augment()
        hits[part][tuple(pairs.pixels[:, pairs.partner >= 0])] = True
    return hits


def within(drawn: np.ndarray, radius: float) -> np.ndarray:
    """The pixels (height, width) bool that have one of the set pixels of `drawn` at most `radius` pixels away."""
    return _Field(drawn, radius).near


def _parts(maps: np.ndarray, steps: int) -> Iterator[slice]:
    """Runs of maps that are matched together."""
    work = np.maximum(maps.sum(axis=(1, 2)) * steps // 8, maps.shape[1] * maps.shape[2])
    start = 0
    while start < len(maps):
        size = max(1, int(np.searchsorted(np.cumsum(work[start:]), 4 * _LOOKUPS)))
        yield slice(start, start + size)
        start += size


class _Field:
    """A drawing, prepared for looking up its pixels around a place.

    Attributes:
        count: how many pixels it has; they are numbered.
        margin: added on every side, so that no step leaves the field.
        width: of a row of the field.
        numbers: the field, flat: the number of the pixel drawn there, or -1.
        steps: flat steps to all places within the radius, nearest first.
        near: (height, width) bool, where some step leads to a drawn pixel.
    """

    def __init__(self, drawn: np.ndarray, radius: float) -> None:
        self.count, self.margin = int(drawn.sum()), int(radius)
        self.width = drawn.shape[1] + 2 * self.margin
        dy, dx = np.mgrid[-self.margin : self.margin + 1, -self.margin : self.margin + 1]
        squares = (dy**2 + dx**2).ravel()
        order = np.argsort(squares, kind="stable")[: int((squares <= radius**2).sum())]
        self.steps = (dy * self.width + dx).ravel()[order]
        inner = (slice(self.margin, self.margin + drawn.shape[0]), slice(self.margin, self.margin + drawn.shape[1]))
        field = np.full((drawn.shape[0] + 2 * self.margin, self.width), -1, np.int32)
        field[inner][drawn] = np.arange(self.count)
        self.numbers = field.reshape(-1)
        near = np.zeros(self.numbers.shape, bool)
        near[np.flatnonzero(self.numbers >= 0)[:, None] + self.steps] = True
        self.near: np.ndarray = near.reshape(field.shape)[inner]


class _Pairs:
    """A matching between the pixels of some maps and as many copies of a drawing.

    A pixel is called left, a drawn one right; the rights of map k are numbered from k times `field.count`.

    Attributes:
        pixels: (3, lefts): map, row and column of each left.
        at: where it lies in the field.
        first: the number of its map's first right.
        partner: its right, or -1.
        mate: for each right its left, or -1.
    """

    def __init__(self, maps: np.ndarray, field: _Field) -> None:
        self.field, self.pixels = field, np.stack(np.nonzero(maps))
        on, y, x = self.pixels
        self.at = (y + field.margin) * field.width + x + field.margin
        self.first = on * field.count
        self.partner = np.full(len(on), -1)
        self.mate = np.full(len(maps) * field.count, -1)

    def take_nearest(self) -> None:
        """Pair greedily by increasing distance. One step pairs each left with one right and none twice, so nothing collides."""
        single = np.arange(len(self.at))
        for step in self.field.steps:
            found = self.field.numbers[self.at[single] + step]
            left = single[found >= 0]
            right = self.first[left] + found[found >= 0]
            left, right = left[self.mate[right] < 0], right[self.mate[right] < 0]
            self.partner[left], self.mate[right] = right, left
            single = single[self.partner[single] < 0]

    def augment(self) -> None:
        """Add pairs along alternating paths until there are as many as there can be."""
        count = self.field.count
        single = self.partner < 0
        missed = np.asarray((self.mate.reshape(-1, count) < 0).any(axis=1))  # maps with a single right
        missed &= np.bincount(self.pixels[0][single], minlength=len(missed)) > 0  # and a single left
        reach = _Reach(self, np.flatnonzero(missed[self.pixels[0]]))
        roots = np.flatnonzero(single & missed[self.pixels[0]])
        while len(roots) and self._grow(reach, roots):
            roots = roots[self.partner[roots] < 0]

    def _grow(self, reach: "_Reach", roots: np.ndarray) -> bool:
        """Grow trees of alternating paths from all `roots` at once, and use one path of each tree that meets a single right.

        A right belongs to the first tree that comes upon it, so the paths of different trees share nothing.
        """
        parent = np.full(len(self.mate), -1)
        root = np.full(len(self.partner), -1)
        ended = np.zeros(len(self.partner), bool)
        root[roots], front, ends = roots, roots, []
        while len(front):
            owner, right = reach.of(front)
            new = _firsts(right, parent)
            owner, right = owner[new], right[new]
            parent[right] = owner
            tree, mate = root[owner], self.mate[right]
            goal = np.flatnonzero(mate < 0)
            goal = goal[np.unique(tree[goal], return_index=True)[1]] if len(goal) else goal
            ends.append(right[goal])
            ended[tree[goal]] = True
            root[mate[mate >= 0]] = tree[mate >= 0]
            front = mate[(mate >= 0) & ~ended[tree]]
        return self._flip(np.concatenate(ends), parent)

    def _flip(self, right: np.ndarray, parent: np.ndarray) -> bool:
        """Exchange single and paired along the paths that end in `right`; whether there is one."""
        some = len(right) > 0
        while len(right):
            left = parent[right]
            before = self.partner[left]
            self.partner[left], self.mate[right] = right, left
            right = before[before >= 0]
        return some


def _firsts(right: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Where in `right` those stand that have no parent yet, each at its first place."""
    new = np.flatnonzero(parent[right] < 0)
    parent[right[new[::-1]]] = new[::-1]  # of equal ones the first is written last
    return new[parent[right[new]] == new]


class _Reach:
    """Every right within the radius of each left of `lefts`, in rows of one long list."""

    def __init__(self, pairs: _Pairs, lefts: np.ndarray) -> None:
        field, lengths, lists = pairs.field, np.zeros(len(pairs.at), np.int64), [np.zeros(0, np.int64)]
        for some in np.array_split(lefts, len(lefts) * len(field.steps) // _LOOKUPS + 1):
            found = field.numbers[pairs.at[some, None] + field.steps]
            row, column = np.nonzero(found >= 0)
            lists.append(pairs.first[some[row]] + found[row, column])
            lengths[some] = np.bincount(row, minlength=len(some))
        self._rights, self._lengths = np.concatenate(lists), lengths
        self._starts = np.cumsum(lengths) - lengths

    def of(self, lefts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of one of `lefts` and a right in its reach, as two lists."""
        lengths = self._lengths[lefts]
        begins = np.repeat(self._starts[lefts] - (np.cumsum(lengths) - lengths), lengths)
        return np.repeat(lefts, lengths), self._rights[begins + np.arange(len(begins))]
