"""What the scores of boundaries are made of: pixels predicted, drawn, and matched one to one, at each of many thresholds."""

from collections.abc import Iterator

import numpy as np

from ubertrain.ops.matching import matched
from ubertrain.ops.thinning import thinned

_PIXELS = 1 << 24
"""Of maps that are thinned and matched together; bounds the memory."""


def steps(count: int) -> np.ndarray:
    """`count` thresholds between 0 and 1, evenly spaced, (count,) float64.

    To the last bit those of the benchmark: where a prediction of 8 bits lies on a threshold, the last bit decides.
    """
    first, last = 1 / (count + 1), 1 - 1 / (count + 1)
    return first + np.arange(count) * (last - first) / max(count - 1, 1)


def boundary_counts(
    strength: np.ndarray, planes: np.ndarray, radius: float, thresholds: np.ndarray, *, thin: bool = True,
    excused: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Counts at each threshold by the procedure of the BSDS benchmark (Martin et al. 2004; Arbelaez et al. 2011).

    The map is cut at the threshold, thinned, and matched one to one with each annotator's drawing. A predicted pixel is right
    if any annotator's pixel is its partner; a drawn one is found if it has a partner.

    Args:
        strength: (height, width) float; pixels that should not count as predicted are 0.
        planes: (annotators, height, width) bool.
        radius: in pixels.
        thresholds: (T,), increasing, above 0; a pixel is predicted from its strength on.
        thin: whether to thin what a threshold leaves to lines of one pixel.
        excused: (height, width) bool; predicted pixels there, once they are thinned, are taken away.

    Returns:
        (4, T) float64: predicted, of these right, drawn by all annotators together, of these found.
    """
    level = np.searchsorted(thresholds, strength, side="right")  # how many thresholds a pixel reaches
    table = np.zeros((4, len(thresholds)))
    table[2] = planes.sum()
    for lowest, highest in _chunks(level, len(thresholds)):
        maps = level > highest[:, None, None] - 1
        maps = thinned(maps) if thin else maps
        maps = maps if excused is None else maps & ~excused
        counts = np.stack(_matches(maps, planes, radius))
        for column, first, last in zip(counts.T, lowest, highest, strict=True):
            table[np.ix_([0, 1, 3], range(first - 1, last))] = column[:, None]
    return table


def _matches(maps: np.ndarray, planes: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted, right and found pixels of each map."""
    right, found = np.zeros(maps.shape, bool), np.zeros(len(maps), np.int64)
    for plane in planes:
        hits = matched(maps, plane, radius)
        right |= hits
        found += hits.sum(axis=(1, 2))
    return maps.sum(axis=(1, 2)), right.sum(axis=(1, 2)), found


def _chunks(level: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Runs of thresholds, counted from 1, that leave the same pixels: their first and last, in chunks that fit into memory.

    Thresholds without any pixel between them make the same map, which is matched once; those above all pixels make none.
    """
    highest = np.unique(level[level > 0])
    lowest = np.concatenate([[1], highest[:-1] + 1])
    size = max(1, _PIXELS // max(level.size, 1))
    for start in range(0, len(highest), size):
        yield lowest[start : start + size], highest[start : start + size]
