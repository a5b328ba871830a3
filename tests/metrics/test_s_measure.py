"""The structure measure against a slow form of its own, and its special cases."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ubertrain.metrics.s_measure import object_similarity, region_similarity, s_measure


def _slow(prediction: np.ndarray, truth: np.ndarray) -> float:
    """The measure as the paper has it: the image is cut into four, each looked at alone; every pixel is known."""
    share = truth.mean()
    if share in (0, 1):
        return float(prediction.mean() if share else 1 - prediction.mean())

    def alike(values: np.ndarray) -> float:
        spread = values.std(ddof=1) if values.size > 1 else 0.0
        return float(2 * values.mean() / (values.mean() ** 2 + 1 + spread))

    def ssim(x: np.ndarray, y: np.ndarray) -> float:
        if x.min() == x.max() and y.min() == y.max():
            return 1.0
        if y.min() == y.max() or x.min() == x.max():
            return 0.0
        (xx, xy), (_, yy) = np.cov(x.ravel(), y.ravel())
        return float(4 * x.mean() * y.mean() * xy / ((x.mean() ** 2 + y.mean() ** 2) * (xx + yy)))

    objects = share * alike(prediction[truth == 1]) + (1 - share) * alike(1 - prediction[truth == 0])
    rows, columns = np.nonzero(truth)
    down, across = (math.floor(places.mean() + 1 + 0.5) for places in (rows, columns))
    regions = 0.0
    for vertical in (slice(None, down), slice(down, None)):
        for horizontal in (slice(None, across), slice(across, None)):
            x, y = prediction[vertical, horizontal], truth[vertical, horizontal]
            regions += ssim(x, y) * x.size / truth.size if x.size else 0.0
    return max(0.0, (objects + regions) / 2)


def _example(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A prediction in steps of 1/255 and a truth with one rectangle, which may touch the border."""
    height, width = generator.integers(5, 20, 2)
    truth = np.zeros((height, width))
    top, left = generator.integers(0, height), generator.integers(0, width)
    truth[top : top + generator.integers(1, 9), left : left + generator.integers(1, 9)] = 1
    noise = generator.integers(0, 256, (height, width))
    return np.where(generator.random((height, width)) < 0.5, noise, 255 * truth) / 255, truth


def _both(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    return s_measure(torch.tensor(prediction)[None], torch.tensor(truth)[None].long()).item(), _slow(prediction, truth)


@pytest.mark.parametrize("seed", range(30))
def test_it_equals_the_slow_form(seed: int) -> None:
    """On noisy rectangles, to 1e-12."""
    fast, slow = _both(*_example(np.random.default_rng(seed)))
    assert fast == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.7, 1.0])
def test_constant_maps_equal_the_slow_form(value: float) -> None:
    """Parts in which nothing varies are exactly alike, whatever rounding makes of a mean."""
    truth = np.zeros((17, 13))
    truth[3:9, 4:7] = 1
    fast, slow = _both(np.full(truth.shape, value), truth)
    assert fast == pytest.approx(slow, abs=1e-12)


def test_the_truth_scores_one_and_its_inverse_zero() -> None:
    """Up to rounding."""
    truth = torch.zeros(1, 12, 14, dtype=torch.int64)
    truth[0, 3:8, 2:9] = 1
    assert s_measure(truth.double(), truth).item() == pytest.approx(1, abs=1e-12)
    assert s_measure(1 - truth.double(), truth).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("everywhere", "score"), [(0, 0.75), (1, 0.25)])
def test_a_truth_of_one_kind_asks_for_the_mean(everywhere: int, score: float) -> None:
    """Nothing salient, and everything."""
    assert s_measure(torch.full((1, 3, 4), 0.25), torch.full((1, 3, 4), everywhere)).item() == score


def test_an_object_of_one_pixel_has_a_score() -> None:
    """It has no standard deviation, and in a corner it leaves three parts empty."""
    prediction = np.random.default_rng(0).integers(0, 256, (4, 5)) / 255
    for place in ((0, 0), (3, 4), (2, 2)):
        truth = np.zeros((4, 5))
        truth[place] = 1
        fast, slow = _both(prediction, truth)
        assert fast == pytest.approx(slow, abs=1e-12)


def test_unknown_pixels_are_as_if_they_were_cut_off() -> None:
    """An unknown border gives the score of the image without it; an image that is all unknown has none."""
    prediction, truth = _example(np.random.default_rng(7))
    inner = s_measure(torch.tensor(prediction)[None], torch.tensor(truth)[None].long())
    padded_prediction = np.pad(prediction, ((0, 3), (0, 4)), constant_values=math.nan)
    padded = np.pad(truth, ((0, 3), (0, 4)), constant_values=255)
    outer = s_measure(torch.tensor(padded_prediction)[None], torch.tensor(padded)[None].long())
    torch.testing.assert_close(outer, inner)
    assert s_measure(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 255)).isnan().all()


def test_images_of_a_batch_are_scored_apart() -> None:
    """As each alone."""
    prediction, truth = torch.rand(3, 9, 8), (torch.rand(3, 9, 8) < 0.3).long()
    truth[1] = 0

    def alone(measure: object) -> Tensor:
        assert callable(measure)
        return torch.cat([measure(prediction[i : i + 1], truth[i : i + 1]) for i in range(3)])

    for measure in (s_measure, object_similarity, region_similarity):
        torch.testing.assert_close(measure(prediction, truth), alone(measure))
