"""Depth errors against their definitions in numpy."""

import math

import numpy as np
import pytest
import torch

from ubertrain.metrics import DepthErrors


def test_scores_equal_their_definitions_pooled_over_pixels() -> None:
    """Images with more readings weigh more."""
    truth = 0.2 + 9 * torch.rand(3, 11, 13)
    truth[0, :, 2:] = 0
    answer = truth.clamp(min=0.2) * torch.exp(0.4 * torch.randn(3, 11, 13))
    metric = DepthErrors()
    metric.update(answer, truth)
    valid = (truth > 0).numpy()
    t, p = truth.numpy()[valid].astype(np.float64), answer.numpy()[valid].astype(np.float64)
    factor = np.maximum(t / p, p / t)
    wanted = {
        "AbsRel": np.mean(np.abs(p - t) / t),
        "RMSE": np.sqrt(np.mean((p - t) ** 2)),
        "RMSE_log": np.sqrt(np.mean((np.log(p) - np.log(t)) ** 2)),
        **{f"delta{k}": np.mean(factor < 1.25**k) for k in (1, 2, 3)},
    }
    assert metric.compute() == pytest.approx(wanted)


def test_a_perfect_answer_has_no_error() -> None:
    """And every share is 1."""
    depth = 0.5 + torch.rand(2, 4, 4)
    metric = DepthErrors()
    metric.update(depth, depth)
    assert metric.compute() == {"AbsRel": 0, "RMSE": 0, "RMSE_log": 0, "delta1": 1, "delta2": 1, "delta3": 1}


def test_what_is_predicted_without_a_reading_has_no_effect() -> None:
    """Not even nan."""
    truth = torch.tensor([[[2.0, 0.0]]])
    first, second = DepthErrors(), DepthErrors()
    first.update(torch.tensor([[[3.0, 1.0]]]), truth)
    second.update(torch.tensor([[[3.0, torch.nan]]]), truth)
    assert torch.equal(first.sums, second.sums)


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
    metric = DepthErrors()
    metric.update(torch.ones(1, 2, 2), torch.zeros(1, 2, 2))
    assert all(math.isnan(score) for score in metric.compute().values())
