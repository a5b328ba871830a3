"""Angles between normals against the arc cosine in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics import AngularError


def _normals(*size: int) -> Tensor:
    rows, height, width = size
    return F.normalize(torch.randn(rows, 3, height, width), dim=1)


def test_scores_equal_their_definitions_pooled_over_pixels() -> None:
    """The median to within its bin of 0.01 degrees."""
    truth = _normals(3, 12, 14)
    answer = F.normalize(truth + 0.4 * torch.randn(truth.shape), dim=1)
    truth[0, :, :, 3:] = 0
    metric = AngularError()
    metric.update(answer, truth)
    valid = (truth != 0).any(dim=1)
    t, p = (n.movedim(1, -1)[valid].double().numpy() for n in (truth, answer))
    cosines = np.sum(t * p, axis=1) / np.linalg.norm(t, axis=1) / np.linalg.norm(p, axis=1)
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    scores = metric.compute()
    assert scores.pop("median") == pytest.approx(np.median(angles), abs=0.01)
    assert scores.pop("missing") == 0
    within = {f"within_{limit}": np.mean(angles < float(limit)) for limit in ("11.25", "22.5", "30")}
    assert scores == pytest.approx({"mean": np.mean(angles), "RMSE": np.sqrt(np.mean(angles**2)), **within}, rel=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 0.05, 11.2, 89.0, 90.0, 179.95, 180.0])
def test_one_angle_is_told_precisely(degrees: float) -> None:
    """Also near 0 and 180, where the arc cosine of float32 vectors is off by 0.02 degrees."""
    angle = math.radians(degrees)
    truth = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1)
    answer = torch.tensor([math.sin(angle), 0.0, -math.cos(angle)], dtype=torch.float64).view(1, 3, 1, 1)
    metric = AngularError()
    metric.update(answer, truth)
    scores = metric.compute()
    assert scores["mean"] == pytest.approx(degrees, abs=1e-9)
    assert scores["median"] == pytest.approx(degrees, abs=0.01)


def test_lengths_do_not_matter_and_no_direction_is_a_right_angle() -> None:
    """A prediction that was not made unit is not punished for it."""
    truth = _normals(1, 4, 5)
    metric = AngularError()
    metric.update(7 * truth, truth)
    assert metric.compute()["mean"] == pytest.approx(0, abs=1e-4)
    metric = AngularError()
    metric.update(torch.zeros(1, 3, 4, 5), truth)
    assert metric.compute()["mean"] == pytest.approx(90)
    assert metric.compute()["missing"] == 1


@pytest.mark.parametrize("nothing", [0.0, math.nan, math.inf, -math.inf])
def test_no_direction_is_counted_and_hides_no_other_pixel(nothing: float) -> None:
    """One of four pixels has none: a mean of 90 / 4 degrees."""
    truth = _normals(1, 2, 2)
    answer = truth.clone()
    answer[..., 0, 1] = nothing
    metric = AngularError()
    metric.update(answer, truth)
    scores = metric.compute()
    assert scores["missing"] == 0.25
    assert scores["mean"] == pytest.approx(22.5, abs=1e-4)
    assert scores["within_11.25"] == 0.75


def test_truth_that_is_not_finite_is_unknown() -> None:
    """As 0 0 0 is."""
    truth = _normals(1, 2, 2)
    truth[0, 1, 0, 0], truth[0, :, 0, 1] = math.nan, 0.0
    metric = AngularError()
    metric.update(_normals(1, 2, 2), truth)
    assert metric.sums[0] == 2 and math.isfinite(metric.compute()["mean"])


def test_truth_too_short_for_a_direction_is_unknown() -> None:
    """What rounding leaves of a zero counts as one, not as 90 degrees."""
    truth = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64).view(1, 3, 1, 1) * torch.tensor([1.0, 1e-20, 0.0])
    metric = AngularError()
    metric.update(truth.sign(), truth)
    assert metric.compute()["mean"] == 0


def test_a_prediction_of_another_size_is_refused() -> None:
    """It would be scored against other pixels."""
    with pytest.raises(DataError, match=r"shape \(1, 3, 24, 32\) for labels that need \(1, 3, 96, 128\)"):
        AngularError().update(_normals(1, 24, 32), _normals(1, 96, 128))


def test_merging_parts_equals_the_whole() -> None:
    """The median included, which is why it is a histogram."""
    answer, truth = _normals(4, 6, 7), _normals(4, 6, 7)
    whole, first, second = AngularError(), AngularError(), AngularError()
    whole.update(answer, truth)
    first.update(answer[:3], truth[:3])
    second.update(answer[3:], truth[3:])
    second.merge(first)
    assert second.compute() == pytest.approx(whole.compute(), rel=1e-12)


def test_without_normals_everything_is_nan() -> None:
    """Rather than a perfect 0."""
    metric = AngularError()
    metric.update(_normals(1, 2, 2), torch.zeros(1, 3, 2, 2))
    assert all(math.isnan(score) for score in metric.compute().values())
