"""Binary maps thinned to lines of one pixel.

The rule is Guo and Hall's (CACM 32:3, 1989), in the two half-steps that MATLAB's `bwmorph(map, 'thin', Inf)` and
skimage's `thin` use: a pixel of the edge of a shape goes unless it holds the shape together or ends a line.
"""

import math

import numpy as np


def thinned(maps: np.ndarray) -> np.ndarray:
    """`maps` (..., height, width) bool, each thinned on its own until nothing changes.

    Connected shapes stay connected and holes stay holes; nothing lies outside of a map. Only pixels beside one that has just
    gone are looked at again, so the work is that of the pixels that go, not of all pixels times all rounds.
    """
    height, width = maps.shape[-2:]
    count = math.prod(maps.shape[:-2])
    on = np.zeros((count, height + 2, width + 2), np.uint8)
    on[:, 1:-1, 1:-1] = maps.reshape(count, height, width)
    flat, around = on.reshape(-1), _around(width + 2)
    waiting = [np.flatnonzero(flat)] * 2  # for each half-step, the pixels whose neighbours changed since it saw them
    turn = 0
    while len(waiting[0]) or len(waiting[1]):
        gone = _deletable(flat, waiting[turn], around, _TABLES[turn])
        flat[gone] = 0
        touched = _beside(flat, gone, around)
        waiting[turn] = touched
        waiting[1 - turn] = _union(waiting[1 - turn], touched, flat)
        turn = 1 - turn
    return on[:, 1:-1, 1:-1].reshape(maps.shape).astype(bool)


def _around(width: int) -> np.ndarray:
    """Steps in a flat map to the neighbours x1 ... x8: east first, then counter-clockwise."""
    return np.array([1, 1 - width, -width, -1 - width, -1, width - 1, width, width + 1])


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For both half-steps: whether a pixel goes, by its neighbours x1 ... x8 as the bits of a byte, x1 the lowest."""
    x = [((np.arange(256) >> bit) & 1).astype(bool) for bit in range(8)]
    crossings = sum((~x[i] & (x[i + 1] | x[(i + 2) % 8])).astype(int) for i in (0, 2, 4, 6))
    pairs = sum((x[i] | x[i + 1]).astype(int) for i in (0, 2, 4, 6))
    shifted = sum((x[i + 1] | x[(i + 2) % 8]).astype(int) for i in (0, 2, 4, 6))
    fewer = np.minimum(pairs, shifted)
    both = (crossings == 1) & (fewer >= 2) & (fewer <= 3)
    first = both & ~((x[1] | x[2] | ~x[7]) & x[0])
    second = both & ~((x[5] | x[6] | ~x[3]) & x[4])
    return first, second


_TABLES = _tables()


def _deletable(flat: np.ndarray, places: np.ndarray, around: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Those of `places` that go in this half-step; all are judged before any goes."""
    code = np.zeros(len(places), np.uint8)
    for bit, step in enumerate(around):
        code |= flat[places + step] << np.uint8(bit)
    return places[table[code]]


def _beside(flat: np.ndarray, places: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The set pixels next to `places`, each once, in order."""
    near = (places[:, None] + around).reshape(-1)
    return _once(near[flat[near] > 0])


def _union(first: np.ndarray, second: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The pixels of either that are still set, each once, in order."""
    both = np.concatenate([first, second])
    return _once(both[flat[both] > 0])


def _once(places: np.ndarray) -> np.ndarray:
    """`places` sorted and each once; `np.unique` hashes, which takes several times as long on millions of numbers."""
    places.sort()
    return places[np.flatnonzero(np.diff(places, prepend=-1))]
