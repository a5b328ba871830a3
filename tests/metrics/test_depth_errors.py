"""Depth errors against their definitions in numpy."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ubertrain.errors import ConfigError, DataError
from ubertrain.metrics import DepthErrors

NAMES = ("AbsRel", "SqRel", "RMSE", "RMSE_log", "log10", "SILog", "delta1", "delta2", "delta3")


def _defined(t: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """The scores of readings `t` and predictions `p`, both (pixels,), one line per definition."""
    factor, apart = np.maximum(t / p, p / t), np.log(p) - np.log(t)
    return {
        "AbsRel": np.mean(np.abs(p - t) / t),
        "SqRel": np.mean((p - t) ** 2 / t),
        "RMSE": np.sqrt(np.mean((p - t) ** 2)),
        "RMSE_log": np.sqrt(np.mean(apart**2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(t))),
        "SILog": 100 * np.std(apart),
        **{f"delta{k}": np.mean(factor < 1.25**k) for k in (1, 2, 3)},
    }


def _scene() -> tuple[Tensor, Tensor]:
    """Predictions and truth of three images, the first with few readings, the last with none."""
    truth = 0.2 + 9 * torch.rand(3, 11, 13)
    truth[0, :, 2:] = 0
    truth[2] = 0
    return truth.clamp(min=0.2) * torch.exp(0.4 * torch.randn(3, 11, 13)), truth


def _scores(prediction: Tensor, truth: Tensor, **options: Any) -> dict[str, float]:
    metric = DepthErrors(**options)
    metric.update(prediction, truth)
    return metric.compute()


def _arrays(prediction: Tensor, truth: Tensor, where: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return truth[where].double().numpy(), prediction[where].double().numpy()


def test_scores_equal_their_definitions_pooled_over_pixels() -> None:
    """Images with more readings weigh more."""
    answer, truth = _scene()
    wanted = _defined(*_arrays(answer, truth, truth > 0))
    scores = _scores(answer, truth)
    assert {name: scores[name] for name in NAMES} == pytest.approx(wanted)
    assert scores["missing"] == scores["missing_image"] == 0


def test_scores_of_images_are_averaged() -> None:
    """Every image with a reading weighs alike, and roots are drawn image by image."""
    answer, truth = _scene()
    parts = [_defined(*_arrays(answer[row], truth[row], truth[row] > 0)) for row in (0, 1)]
    scores = _scores(answer, truth)
    wanted = {name: (parts[0][name] + parts[1][name]) / 2 for name in NAMES}
    assert {name: scores[f"{name}_image"] for name in NAMES} == pytest.approx(wanted)


def test_only_truth_within_the_valid_range_counts_and_predictions_are_clipped_to_it() -> None:
    """Ends excluded for the truth, as the codes for KITTI have it."""
    answer, truth = _scene()
    truth[1, 0, :2] = torch.tensor([1.0, 5.0])
    t, p = _arrays(answer, truth, (truth > 1) & (truth < 5))
    scores = _scores(answer, truth, valid=(1.0, 5.0))
    assert {name: scores[name] for name in NAMES} == pytest.approx(_defined(t, p.clip(1, 5)))


def test_a_crop_leaves_out_the_border() -> None:
    """Of NYUv2 at half its size: rows 22 to 234 and columns 20 to 299."""
    answer, truth = 0.5 + torch.rand(2, 1, 240, 320)
    inside = torch.zeros(1, 240, 320, dtype=torch.bool)
    inside[:, 22:235, 20:300] = True
    scores = _scores(answer, truth, crop="nyu")
    assert {name: scores[name] for name in NAMES} == pytest.approx(_defined(*_arrays(answer, truth, inside)))


def test_median_alignment_is_blind_to_scale_and_to_nothing_else() -> None:
    """Each image has its own factor, the ratio of the medians."""
    answer, truth = _scene()
    factors = torch.tensor([3.0, 0.1, 7.0]).view(3, 1, 1)
    aligned = _scores(answer, truth, align="median")
    assert _scores(factors * answer, truth, align="median") == pytest.approx(aligned, nan_ok=True)
    row = truth[:1] > 0
    t, p = _arrays(answer[:1], truth[:1], row)
    wanted = _defined(t, p * np.median(t) / np.median(p))
    scores = _scores(answer[:1], truth[:1], align="median")
    assert {name: scores[name] for name in NAMES} == pytest.approx(wanted)


def test_a_perfect_answer_has_no_error() -> None:
    """And every share is 1."""
    depth = 0.5 + torch.rand(2, 4, 4)
    scores = _scores(depth, depth)
    assert {name: scores[name] for name in NAMES} == {name: float(name.startswith("delta")) for name in NAMES}


def test_a_factor_of_exactly_a_threshold_is_not_below_it() -> None:
    """5 for 4 metres is no hit at 1.25."""
    assert _scores(torch.tensor([[[5.0, 4.9]]]), torch.tensor([[[4.0, 4.0]]]))["delta1"] == 0.5


def test_what_is_predicted_without_a_reading_has_no_effect() -> None:
    """Not even nan."""
    truth = torch.tensor([[[2.0, 0.0, torch.inf, torch.nan]]])
    first, second = DepthErrors(), DepthErrors()
    first.update(torch.tensor([[[3.0, 1.0, 1.0, 1.0]]]), truth)
    second.update(torch.tensor([[[3.0, torch.nan, torch.inf, -1.0]]]), truth)
    assert torch.equal(first.sums, second.sums)


@pytest.mark.parametrize(
    ("nothing", "farthest", "counts_as"),
    [(math.nan, 80.0, 0.5), (-math.inf, 80.0, 0.5), (0.0, 80.0, 0.5), (-3.0, math.inf, 0.5), (math.inf, math.inf, 0.5),
     (math.inf, 80.0, 80.0)],
)  # fmt: skip
def test_no_answer_is_counted_and_is_no_way_to_a_better_score(nothing: float, farthest: float, counts_as: float) -> None:
    """It counts as an end of the valid range, and `missing` says how often that was so."""
    truth = torch.tensor([[[2.0, 4.0]]])
    scores = _scores(torch.tensor([[[nothing, 4.0]]]), truth, valid=(0.5, farthest))
    assert scores["missing"] == 0.5
    assert scores["AbsRel"] == pytest.approx(abs(counts_as - 2) / 2 / 2)


def test_merging_parts_equals_the_whole() -> None:
    """To the last digits."""
    answer, truth = torch.rand(4, 5, 6), torch.rand(4, 5, 6) - 0.2
    truth = truth.clamp(min=0)
    whole, first, second = DepthErrors(), DepthErrors(), DepthErrors()
    whole.update(answer, truth)
    first.update(answer[:1], truth[:1])
    second.update(answer[1:], truth[1:])
    first.merge(second)
    assert first.compute() == pytest.approx(whole.compute(), rel=1e-12)


def test_without_readings_everything_is_nan() -> None:
    """Rather than a perfect 0."""
    assert all(math.isnan(score) for score in _scores(torch.ones(1, 2, 2), torch.zeros(1, 2, 2)).values())


@pytest.mark.parametrize("valid", [(0.0, 10.0), (5.0, 1.0), (-1.0, 1.0)])
def test_a_range_that_is_none_is_refused(valid: tuple[float, float]) -> None:
    """The nearest depth is above 0 and below the farthest."""
    with pytest.raises(ConfigError, match="from a nearest, above 0, to a farthest"):
        DepthErrors(valid=valid)


def test_a_prediction_of_another_size_is_refused() -> None:
    """It would be scored against other pixels."""
    with pytest.raises(DataError, match=r"shape \(1, 24, 32\) for labels that need \(1, 96, 128\)"):
        _scores(torch.ones(1, 24, 32), torch.ones(1, 96, 128))
