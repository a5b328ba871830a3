"""Thinning a map of line strengths."""

import math

import pytest
import torch
from torch import Tensor

from ubertrain.ops.pixels import enlarge
from ubertrain.ops.ridges import ridges

_SIDE = 64
_INNER = (slice(None), slice(6, -6), slice(6, -6))
"""Along the border of the map lines fade."""

_TOOLBOX = """
..............
....#......##.
.####....#....
......###.....
.......#......
...........#..
....#.##......
.##.#.....#...
....##...###..
....#..##...#.
..###.........
..............
"""
"""What the toolbox's own code (as ported to C in pyEdgeEval 0.2.8, defaults) leaves of the pattern below."""


def _distance(degrees: float) -> Tensor:
    """Distance in pixels from a line near the middle of the map under an angle, (1, 64, 64)."""
    y, x = torch.meshgrid(torch.arange(_SIDE) - 31.7, torch.arange(_SIDE) - 31.7, indexing="ij")
    return (x * math.sin(math.radians(degrees)) - y * math.cos(math.radians(degrees))).abs()[None]


def test_what_stays_is_what_the_published_toolbox_leaves() -> None:
    """The same pixels, and the same sum of values, on a pattern that every port of the code can make."""
    i, j = torch.meshgrid(torch.arange(12), torch.arange(14), indexing="ij")
    thin = ridges((((7 * i * i + 3 * i * j + 5 * j * j) % 17) / 16).double()[None])
    assert (thin[0] > 0).tolist() == [[pixel == "#" for pixel in line] for line in _TOOLBOX.split()]
    assert float(thin.sum()) == pytest.approx(7.8509375, abs=1e-12)


_QUIRK = pytest.mark.xfail(reason="on an exact diagonal the toolbox's 1e-5 turns the direction where the line's flank bends")


@pytest.mark.parametrize(
    ("degrees", "sigma", "width"),
    [
        pytest.param(degrees, sigma, width, marks=[_QUIRK] if (degrees, sigma) == (135, 3.0) else [])
        for degrees in range(0, 180, 15)
        for sigma, width in ((0.7, 0.6), (1.5, 0.6), (3.0, 1.1))
    ],
)
def test_of_a_blurred_line_only_the_crest_stays(degrees: float, sigma: float, width: float) -> None:
    """What stays lies within a pixel of the line, and every row or column that the line crosses keeps a pixel."""
    distance = _distance(degrees)
    kept = ridges(torch.exp(-(distance**2) / (2 * sigma**2)))[_INNER] > 0.1
    assert float(distance[_INNER][kept].max()) < width
    steep = 45 <= degrees <= 135
    assert bool(kept[0].any(dim=1 if steep else 0).all())


@pytest.mark.parametrize("degrees", range(0, 180, 15))
def test_a_thin_line_is_kept_whole(degrees: float) -> None:
    """Thinning removes less than a twentieth of what is thin, and leaves nothing beside it."""
    line = (_distance(degrees) < 0.5)[_INNER]
    kept = ridges((_distance(degrees) < 0.5).float())[_INNER] > 0.1
    assert int((kept & line).sum()) > 0.95 * int(line.sum())
    assert int((kept & ~line).sum()) < 0.1 * int(line.sum())


@pytest.mark.parametrize(("width", "left"), [(1, 1), (2, 2), (3, 1), (4, 2), (5, 3)])
def test_a_flat_bar_is_thinned(width: int, left: int) -> None:
    """By the width of the first blur; what is wider is left to the thinning of binary maps."""
    bar = torch.zeros(1, _SIDE, _SIDE)
    bar[:, 30 : 30 + width] = 1
    assert int((ridges(bar)[0, :, 32] > 0).sum()) == left


def test_a_constant_map_stays_and_fades_towards_the_border() -> None:
    """It says nothing about where its lines are."""
    thin = ridges(torch.full((1, 13, 14), 0.5))[0]
    assert torch.equal(thin[5:-5, 5:-5], torch.full((3, 4), 0.5))
    assert thin[6, :6].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_images_of_a_batch_do_not_meet() -> None:
    """Each is thinned as it would be alone, also where everything is nearly equal."""
    strength = 0.5 + 0.01 * enlarge(torch.rand(3, 1, 17, 23), 4)[:, 0]
    assert torch.equal(ridges(strength), torch.cat([ridges(image[None]) for image in strength]))


@pytest.mark.parametrize("turn", [lambda m: m.flip(1), lambda m: m.flip(2), lambda m: m.transpose(1, 2)])
def test_turning_the_map_turns_the_ridges(turn) -> None:  # type: ignore[no-untyped-def]
    """No direction is preferred."""
    strength = torch.rand(1, 24, 24)
    torch.testing.assert_close(ridges(turn(strength)), turn(ridges(strength)))


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (1, 1, 1), (1, 1, 7), (1, 3, 2)])
def test_tiny_maps_have_ridges_too(shape: tuple[int, int, int]) -> None:
    """Of the same shape, and finite."""
    thin = ridges(torch.rand(shape))
    assert thin.shape == shape and bool(thin.isfinite().all())
