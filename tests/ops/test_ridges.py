"""Thinning a map of line strengths."""

import math

import pytest
import torch
from torch import Tensor

from ubertrain.ops.pixels import enlarge
from ubertrain.ops.ridges import ridges

_SIDE = 64
_INNER = (slice(None), slice(4, -4), slice(4, -4))
"""Along the border of the map a line may keep some of its width."""


def _distance(degrees: float) -> Tensor:
    """Distance in pixels from a line near the middle of the map under an angle, (1, 64, 64)."""
    y, x = torch.meshgrid(torch.arange(_SIDE) - 31.7, torch.arange(_SIDE) - 31.7, indexing="ij")
    return (x * math.sin(math.radians(degrees)) - y * math.cos(math.radians(degrees))).abs()[None]


@pytest.mark.parametrize("degrees", range(0, 180, 15))
@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_of_a_blurred_line_only_the_crest_stays(degrees: float, sigma: float) -> None:
    """What stays lies within 0.6 pixels of the line, and every row or column that the line crosses keeps a pixel."""
    distance = _distance(degrees)
    kept = ridges(torch.exp(-(distance**2) / (2 * sigma**2)))[_INNER] > 0.1
    assert float(distance[_INNER][kept].max()) < 0.6
    steep = 45 <= degrees <= 135
    assert bool(kept[0].any(dim=1 if steep else 0).all())


@pytest.mark.parametrize("degrees", range(0, 180, 15))
def test_a_thin_line_is_kept_whole(degrees: float) -> None:
    """Thinning removes less than a twentieth of what is thin."""
    line = (_distance(degrees) < 0.5).float()
    assert float(ridges(line).sum()) > 0.95 * float(line.sum())


@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_a_flat_bar_is_thinned_to_two_pixels_at_most(width: int) -> None:
    """A saturated prediction is not counted several times over."""
    bar = torch.zeros(1, _SIDE, _SIDE)
    bar[:, 30 : 30 + width] = 1
    assert int((ridges(bar)[0, :, 32] > 0).sum()) == (1 if width % 2 else 2)


def test_what_stays_is_unchanged_and_the_rest_is_zero() -> None:
    """Thinning selects, it does not rescale."""
    strength = torch.rand(2, 20, 30)
    thin = ridges(strength)
    assert torch.equal(thin, strength * (thin > 0))
    assert 0 < int((thin > 0).sum()) < strength.numel() / 2


def test_a_constant_map_stays_as_it_is() -> None:
    """It says nothing about where its lines are."""
    assert torch.equal(ridges(torch.full((1, 9, 11), 0.3)), torch.full((1, 9, 11), 0.3))


def test_images_of_a_batch_do_not_meet() -> None:
    """Each is thinned as it would be alone, also where everything is nearly equal."""
    strength = 0.5 + 0.01 * enlarge(torch.rand(3, 1, 17, 23), 4)[:, 0]
    assert torch.equal(ridges(strength), torch.cat([ridges(image[None]) for image in strength]))


@pytest.mark.parametrize("turn", [lambda m: m.flip(1), lambda m: m.flip(2), lambda m: m.transpose(1, 2)])
def test_turning_the_map_turns_the_ridges(turn) -> None:  # type: ignore[no-untyped-def]
    """No direction is preferred."""
    strength = torch.rand(1, 24, 24)
    assert torch.equal(ridges(turn(strength)), turn(ridges(strength)))
