"""F-measure, precision-recall curve and average precision of boundary counts, by the conventions of the benchmarks.

Counts are tables (4, T): predicted, of these right, drawn, of these found, at increasing thresholds. Shares of nothing are 0,
as in the benchmarks' code.
"""

from typing import NamedTuple

import numpy as np

_BETWEEN = 100
"""Points from each threshold to the next at which the best F is looked for."""


class Best(NamedTuple):
    """Where F is largest along the curve; straight lines connect precision and recall of neighbouring thresholds."""

    f: float
    precision: float
    recall: float
    threshold: float


def shares(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F, precision and recall (..., T) of counts (..., 4, T)."""
    predicted, right, drawn, found = np.moveaxis(counts, -2, 0)
    precision, recall = right / np.maximum(predicted, 1), found / np.maximum(drawn, 1)
    return _f(precision, recall), precision, recall


def points(counts: np.ndarray, thresholds: np.ndarray) -> tuple[dict[str, float], ...]:
    """The curve of counts (4, T): threshold, F, precision and recall by name, the lowest threshold first."""
    names = ("threshold", "F", "precision", "recall")
    columns = zip(thresholds, *shares(counts), strict=True)
    return tuple(dict(zip(names, map(float, point), strict=True)) for point in columns)


def best(counts: np.ndarray, thresholds: np.ndarray) -> Best:
    """The largest F of the curve of counts (4, T), the first of equal ones."""
    _, precision, recall = shares(counts)
    place = np.linspace(0, 1, _BETWEEN)
    fine = [
        np.concatenate([values[:1], (values[1:, None] * place + values[:-1, None] * (1 - place)).ravel()])
        for values in (precision, recall, thresholds)
    ]
    f = _f(fine[0], fine[1])
    at = int(f.argmax())
    return Best(float(f[at]), *(float(values[at]) for values in fine))


def own_best(counts: np.ndarray) -> int:
    """The threshold with the largest F of one image's counts (4, T), the last of equal ones: its index."""
    f = shares(counts)[0]
    return int(np.flatnonzero(f == f.max())[-1])


def area(counts: np.ndarray) -> float:
    """BSDS500's average precision: that of precision, interpolated linearly in recall, at recalls 0, 0.01, ..., 1.

    Recalls that the curve does not reach count as 0, on either side. Of thresholds with one recall the highest is taken.
    """
    _, precision, recall = shares(counts)
    known, last = np.unique(recall[::-1], return_index=True)
    if len(known) < 2:
        return 0.0
    return float(np.interp(np.linspace(0, 1, 101), known, precision[::-1][last], left=0, right=0).sum() * 0.01)


def average_precision(counts: np.ndarray) -> float:
    """SBD's average precision: the mean over recalls 0, 0.01, ..., 1 of the largest precision at that recall or above."""
    _, precision, recall = shares(counts)
    reached = recall >= np.arange(101)[:, None] / 100
    return float(np.where(reached, precision, 0.0).max(axis=1).mean())


def _f(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    total = precision + recall
    return 2 * precision * recall / np.where(total > 0, total, 1)
