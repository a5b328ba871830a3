"""What is drawn: by weight, epoch by epoch, as a function of the step."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.data.stubs import Listed
from ubertrain.data.mixing import Draw, Mixer
from ubertrain.errors import ConfigError

SIZES = {"a": 7, "b": 100, "c": 31}
WEIGHTS = {"a": 1.0, "b": 4.0, "c": 0.003}


def mixer(batch: int = 6, seed: int = 3, weights: dict[str, float] | None = None) -> Mixer:
    """Three sets of different sizes and weights."""
    return Mixer({name: Listed([[]] * size) for name, size in SIZES.items()}, weights or WEIGHTS, batch=batch, seed=seed)


def drawn(mixer: Mixer, start: int, stop: int) -> list[Draw]:
    """All draws of a range of steps, in order."""
    return [draw for step in range(start, stop) for draw in mixer.draw(step)]


def test_every_image_once_before_any_twice() -> None:
    """The draws of each set are permutations of it, one after the other, each unlike the one before."""
    draws = drawn(mixer(), 0, 700)
    for name, size in SIZES.items():
        indices = [draw.index for draw in draws if draw.set == name]
        epochs = [indices[i : i + size] for i in range(0, len(indices) - size + 1, size)]
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert all(a != b for a, b in pairwise(epochs))


def test_any_step_can_be_drawn_first() -> None:
    """A new mixer asked for step k alone gives what one that went through all steps gives, also at a block's border."""
    old = mixer()
    steps = [old.draw(step) for step in range(400)]
    for step in (399, 170, 171, 340, 0, 1):
        assert mixer().draw(step) == steps[step]


def test_far_steps_need_no_walk() -> None:
    """The billionth image is found among the epochs without drawing those before it; shares and epochs fit together."""
    far = mixer(batch=10)
    assert sum(far.epochs(100_000_000)[name] * size for name, size in SIZES.items()) == pytest.approx(1e9)
    assert {draw.set for draw in far.draw(100_000_000)} <= set(SIZES)


@pytest.mark.parametrize("steps", [1, 170, 171, 400, 5000])
def test_epochs_count_what_was_drawn(steps: int) -> None:
    """The reported epochs are the draws before the step over the sizes."""
    counts = Counter(draw.set for draw in drawn(mixer(), 0, steps))
    assert mixer().epochs(steps) == {name: counts[name] / size for name, size in SIZES.items()}


@pytest.mark.parametrize("seed", range(5))
def test_frequencies_follow_the_weights(seed: int) -> None:
    """After any 500 steps each set's share is its weight's, to less than one image per block of 1024; also a tiny one's."""
    counts = Counter(draw.set for draw in drawn(mixer(seed=seed), 0, 5000))
    total = sum(WEIGHTS.values())
    for name, weight in WEIGHTS.items():
        assert counts[name] == pytest.approx(30_000 * weight / total, abs=12)
    assert counts["c"] > 0


def test_weights_default_to_equal_shares() -> None:
    """Without weights each set gets the same number of images, large or small."""
    equal = Mixer({name: Listed([[]] * size) for name, size in SIZES.items()}, batch=8)
    counts = Counter(draw.set for draw in drawn(equal, 0, 1280))
    assert all(count == pytest.approx(1280 * 8 / 3, abs=10) for count in counts.values())


def test_sets_are_mixed_within_short_stretches() -> None:
    """Sets do not come in long runs: among 60 images in a row there are always both of two equal ones."""
    sets = [draw.set for draw in drawn(mixer(weights={"a": 1, "b": 1, "c": 1e-6}), 0, 500)]
    assert all({"a", "b"} <= set(sets[i : i + 60]) for i in range(len(sets) - 60))


def test_seeds_differ() -> None:
    """Another seed is another sequence, and within one sequence every image has a seed of its own."""
    assert mixer(seed=1).draw(0) != mixer(seed=2).draw(0)
    seeds = [draw.seed for draw in drawn(mixer(), 0, 500)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(
    ("weights", "batch", "message"),
    [
        ({"a": 0.0}, 4, "the weight of data set 'a' must be a positive number; got 0"),
        ({"b": float("nan")}, 4, "the weight of data set 'b' must be a positive number; got nan"),
        ({"z": 1.0}, 4, "a weight for 'z', which is no data set; there are: a, b, c"),
        ({}, 0, "a batch of at least 1|batch 0"),
    ],
)
def test_wrong_settings_are_explained(weights: dict[str, float], batch: int, message: str) -> None:
    """A weight that is no share, a weight of no set, and an empty batch are errors."""
    with pytest.raises(ConfigError, match=message):
        Mixer({name: Listed([[]]) for name in SIZES}, weights, batch=batch)


def test_empty_sets_are_refused() -> None:
    """A set without samples would never be drawn."""
    with pytest.raises(ConfigError, match="data set 'a' has no samples"):
        Mixer({"a": Listed([])}, batch=1)
