"""Thinning of binary maps."""

import numpy as np
import pytest

from ubertrain.ops.thinning import thinned

_BLOB = """
..................
.#####......####..
.######....#####..
.##############...
..####..########..
..###....#########
..####..####...###
...########....###
....######.....###
.........#........
"""
_THIN = """
..................
..................
..................
..######....##....
...#....#..#..#...
...#.....##....#..
...#.....#......#.
....##..#.......#.
......###.........
.........#........
"""


def _map(drawing: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in drawing.split()])


def _turned(maps: np.ndarray, step: int) -> np.ndarray:
    """One half-step by the paper's conditions, pixel by pixel."""
    padded, result = np.pad(maps, 1), maps.copy()
    for y, x in np.argwhere(maps):
        window = padded[y : y + 3, x : x + 3]
        east, north_east, north, north_west = window[1, 2], window[0, 2], window[0, 1], window[0, 0]
        west, south_west, south, south_east = window[1, 0], window[2, 0], window[2, 1], window[2, 2]
        ring = [east, north_east, north, north_west, west, south_west, south, south_east, east]
        crossings = sum(not ring[i] and (ring[i + 1] or ring[i + 2]) for i in (0, 2, 4, 6))
        fewer = min(sum(ring[i] or ring[i + 1] for i in (0, 2, 4, 6)), sum(ring[i + 1] or ring[i + 2] for i in (0, 2, 4, 6)))
        first = (north_east or north or not south_east) and east
        second = (south_west or south or not north_west) and west
        result[y, x] = not (crossings == 1 and 2 <= fewer <= 3 and not (second if step else first))
    return result


def _by_definition(maps: np.ndarray) -> np.ndarray:
    while True:
        following = _turned(_turned(maps, 0), 1)
        if (following == maps).all():
            return maps
        maps = following


def _shapes(count: int, height: int, width: int) -> np.ndarray:
    """Random blobs of all densities."""
    random = np.random.default_rng(0)
    noise = random.random((count, height + 2, width + 2))
    smooth = sum(noise[:, dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)) / 9
    return smooth < np.linspace(0.3, 0.7, count)[:, None, None]


def _pieces(maps: np.ndarray, *, diagonal: bool) -> int:
    """How many connected pieces a map has."""
    label = np.where(maps, np.arange(1, maps.size + 1).reshape(maps.shape), 0)
    while True:
        padded = np.pad(label, 1)
        steps = [(dy, dx) for dy in range(3) for dx in range(3) if diagonal or 1 in (dy, dx)]
        grown = np.max([padded[dy : dy + maps.shape[0], dx : dx + maps.shape[1]] for dy, dx in steps], axis=0) * maps
        if (grown == label).all():
            return len(np.unique(label[maps]))
        label = grown


def test_a_blob_becomes_the_line_that_skimage_makes_of_it() -> None:
    """A known answer, of skimage.morphology.thin 0.26."""
    assert (thinned(_map(_BLOB)) == _map(_THIN)).all()


def test_maps_are_thinned_as_by_the_definition() -> None:
    """Noise and blobs, many at once, against the two half-steps done pixel by pixel."""
    maps = np.concatenate([_shapes(12, 15, 18), np.random.default_rng(1).random((6, 15, 18)) < 0.6])
    assert (thinned(maps) == np.stack([_by_definition(one) for one in maps])).all()


def test_pieces_and_holes_stay() -> None:
    """Nothing falls apart, nothing closes and nothing disappears."""
    for before in _shapes(12, 20, 24):
        after = thinned(before)
        assert _pieces(after, diagonal=True) == _pieces(before, diagonal=True)
        assert _pieces(~np.pad(after, 1), diagonal=False) == _pieces(~np.pad(before, 1), diagonal=False)


@pytest.mark.parametrize("shape", [(0, 5, 6), (2, 0, 4), (5, 6), (2, 3, 5, 6)])
def test_any_number_of_maps_of_any_size(shape: tuple[int, ...]) -> None:
    """The shape stays; empty maps stay empty; the given ones are not touched."""
    maps = np.zeros(shape, bool)
    assert thinned(maps).shape == shape and not thinned(maps).any()
    full = ~maps
    thinned(full)
    assert full.all()
