import numpy as np
import pytest

from ubertrain.data.rendering.textures import PATTERNS, Texture

POINTS = np.random.default_rng(0).uniform(-2, 2, size=(3, 4000)).astype(np.float32)


def texture(pattern: str, seed: int = 1) -> Texture:
    """A pattern that repeats every half metre."""
    table = np.random.default_rng(seed).random(1024, dtype=np.float32)
    return Texture(pattern, scale=0.5, direction=np.array([0.6, 0.0, 0.8], np.float32), table=table)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_shares_lie_between_none_and_all(pattern: str) -> None:
    """Every pattern is a share from 0 to 1, in float32, and the same when asked again."""
    share = texture(pattern).mix(POINTS)
    assert share.dtype == np.float32
    assert share.shape == (4000,)
    assert share.min() >= 0
    assert share.max() <= 1
    assert np.array_equal(share, texture(pattern).mix(POINTS))


@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if pattern != "plain"])
def test_patterns_show(pattern: str) -> None:
    """Each pattern but the plain one has light and dark places."""
    share = texture(pattern).mix(POINTS)
    assert np.ptp(share) > 0.5


@pytest.mark.parametrize("pattern", ["noise", "marble"])
def test_noise_has_no_seams(pattern: str) -> None:
    """Points a tenth of a millimetre apart have nearly the same share, also across lattice planes."""
    near = texture(pattern).mix(POINTS + np.float32(1e-4))
    assert np.abs(near - texture(pattern).mix(POINTS)).max() < 0.02


@pytest.mark.parametrize("pattern", ["noise", "planks", "bricks", "speckle", "marble"])
def test_random_numbers_make_the_pattern(pattern: str) -> None:
    """Another table of random numbers gives another pattern of the same kind."""
    assert not np.array_equal(texture(pattern, seed=1).mix(POINTS), texture(pattern, seed=2).mix(POINTS))
