import math

import pytest
import torch

from ubertrain.annotation.random_warp import RandomWarp
from ubertrain.annotation.warp import Warp
from ubertrain.errors import ConfigError

SOURCE, SIZE = (90, 120), (64, 64)


def drawn(count: int, seed: int = 0, source: tuple[int, int] = SOURCE, **keywords: object) -> list[Warp]:
    """`count` warps from one generator."""
    generator, random_warp = torch.Generator().manual_seed(seed), RandomWarp(**keywords)
    return [random_warp.draw(source, SIZE, generator) for _ in range(count)]


def test_the_generator_decides() -> None:
    """The same seed gives the same warps, another seed gives others."""
    assert drawn(5, seed=1, degrees=10) == drawn(5, seed=1, degrees=10)
    assert drawn(5, seed=1, degrees=10) != drawn(5, seed=2, degrees=10)


@pytest.mark.parametrize(("base", "unit"), [("fit", 64 / 120), ("cover", 64 / 90), ("pixels", 1.0)])
def test_zoom_stays_within_the_scale(base: str, unit: float) -> None:
    """Zooms fill the range of `scale` in units of `base` and never leave it."""
    zooms = [warp.zoom / unit for warp in drawn(200, scale=(0.5, 2.0), base=base)]
    assert 0.5 <= min(zooms) < 0.55
    assert 1.8 < max(zooms) <= 2.0


@pytest.mark.parametrize(("base", "unit"), [("fit", 1.0), ("cover", 120 / 90), ("pixels", 120 / 64)])
def test_magnification_is_against_the_fitted_image(base: str, unit: float) -> None:
    """Training and evaluation, which fits whole images, measure depth in one unit, whatever `base` says."""
    for warp in drawn(3, scale=(1.5, 1.5), base=base):
        assert warp.magnification == pytest.approx(1.5 * unit)


def test_half_of_the_zooms_shrink() -> None:
    """Zooms are even in the logarithm: halving is as likely as doubling."""
    shrinking = sum(warp.zoom < 1 for warp in drawn(400, scale=(0.5, 2.0), base="pixels"))
    assert 160 < shrinking < 240


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.5, 70, 130), (1.0, 200, 200)])
def test_flips_are_as_frequent_as_asked(flip: float, low: int, high: int) -> None:
    """`flip` is the share of mirrored warps."""
    assert low <= sum(warp.mirrored for warp in drawn(200, flip=flip)) <= high


def test_rotations_go_both_ways_and_no_farther() -> None:
    """Angles fill [-degrees, degrees]."""
    angles = [math.degrees(math.atan2(warp.matrix[0][1], warp.matrix[0][0])) for warp in drawn(200, degrees=15, flip=0)]
    assert -15 <= min(angles) < -13
    assert 13 < max(angles) <= 15


@pytest.mark.parametrize("degrees", [0, 20])
def test_crops_stay_within_a_larger_image(degrees: float) -> None:
    """When the image is larger than what the output shows, no output pixel is outside the image."""
    for warp in drawn(50, source=(200, 200), scale=(1.0, 1.5), base="pixels", degrees=degrees):
        corners = torch.tensor([[0.0, 0.0], [64.0, 0.0], [0.0, 64.0], [64.0, 64.0]], dtype=torch.float64)
        seen = warp.inverse().points(corners)
        assert seen.min() >= -1e-6
        assert seen.max() <= 200 + 1e-6


def test_smaller_images_are_shown_whole() -> None:
    """When the output is larger than the image, the whole image is in it, at varying places."""
    places = set()
    for warp in drawn(50, source=(20, 30), scale=(1.0, 1.5), base="pixels"):
        x, y = warp.points(torch.tensor([[0.0, 0.0], [30.0, 20.0]], dtype=torch.float64)).unbind(dim=-1)
        assert min(x.min(), y.min()) >= -1e-6
        assert max(x.max(), y.max()) <= 64 + 1e-6
        places.add((round(x.min().item(), 3), round(y.min().item(), 3)))
    assert len(places) == 50


def test_a_list_from_yaml_is_a_scale() -> None:
    """Lists are taken for tuples, so that equal settings are equal."""
    assert RandomWarp(scale=[0.5, 2.0]) == RandomWarp(scale=(0.5, 2.0))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"scale": (2.0, 1.0)}, "smallest"),
        ({"scale": (0.0, 1.0)}, "smallest"),
        ({"scale": (1.0, 1.1, 1.2)}, "smallest"),
        ({"degrees": -3}, "degrees"),
        ({"flip": 1.5}, "probability"),
        ({"base": "stretch"}, "stretch"),
    ],
)
def test_settings_out_of_range_are_refused(keywords: dict[str, object], message: str) -> None:
    """A setting that cannot be drawn from is a `ConfigError` that names it."""
    with pytest.raises(ConfigError, match=message):
        RandomWarp(**keywords)
