"""Directions that stand for all others: spread evenly, or where the normals of a training set lie."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ubertrain.errors import ConfigError, DataError

Directions = NDArray[np.float64]
"""(n, 3) unit vectors."""

_BEYOND = 0.2
"""How far behind the outline of a sphere codewords go: so that every visible normal has some on all sides."""
_SAME = 1e-9


def even_codewords(count: int) -> Directions:
    """`count` directions spread evenly over those that face the viewer and a little beyond (z < 0.2), always the same ones.

    A Fibonacci lattice: heights in equal steps, which on a sphere are equal areas, and turns by the golden angle.
    """
    index = np.arange(count)
    z = -1 + (1 + _BEYOND) * (index + 0.5) / count
    angle, radius = index * np.pi * (3 - np.sqrt(5)), np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


def clustered_codewords(normals: NDArray[np.floating], count: int, *, seed: int = 0, rounds: int = 50) -> Directions:
    """`count` directions by k-means on the sphere (Dhillon and Modha 2001), as Wang, Fouhey and Gupta (2015) choose theirs.

    The first centres are drawn apart from each other (k-means++). A centre whose normals cancel out stays where it is.

    Args:
        normals: (n, 3) unit vectors, among them at least `count` different ones.
        count: how many.
        seed: of the first centres.
        rounds: at most so many steps; they end when no normal changes its centre.

    Raises:
        ConfigError: too few different normals.
    """
    points = normals.astype(np.float64)
    centres = _first_centres(points, count, np.random.default_rng(seed))
    nearest = np.full(len(points), -1)
    for _ in range(rounds):
        before, nearest = nearest, (points @ centres.T).argmax(axis=1)
        if (nearest == before).all():
            break
        sums = np.stack([np.bincount(nearest, points[:, axis], minlength=count) for axis in range(3)], axis=1)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > _SAME, sums / np.maximum(lengths, _SAME), centres)
    return centres


def read_codewords(file: Path) -> Directions:
    """The codewords in a .npy file, (n, 3) float64 unit vectors.

    Raises:
        DataError: the file is missing or damaged, or holds something else.
    """
    try:
        table = np.load(file, allow_pickle=False)
    except Exception as error:  # numpy raises anything on damaged bytes: EOFError, ValueError, OSError, ...
        raise DataError(f"{file}: cannot be read as a .npy file of codewords ({error or type(error).__name__})") from error
    if table.ndim != 2 or table.shape[1] != 3 or not np.issubdtype(table.dtype, np.floating):
        raise DataError(f"{file}: codewords are a table (n, 3) of numbers; this is {table.shape} of {table.dtype}")
    if not (np.abs(np.linalg.norm(table, axis=1) - 1) < 1e-3).all():
        raise DataError(f"{file}: codewords are unit vectors; some of these have another length")
    return table.astype(np.float64)


def _first_centres(points: Directions, count: int, rng: np.random.Generator) -> Directions:
    """Points drawn one after the other, each in proportion to how far it is from those before (k-means++)."""
    apart = np.ones(len(points))
    chosen: list[Directions] = []
    while len(chosen) < count:
        total = float(apart.sum())
        if not total:
            raise ConfigError(f"{count} codewords need as many different normals; there are {len(chosen)}")
        chosen.append(points[int(rng.choice(len(points), p=apart / total))])
        distance = 1 - points @ chosen[-1]
        apart = np.minimum(apart, np.where(distance > _SAME, distance, 0.0))
    return np.stack(chosen)
