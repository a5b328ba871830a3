"""Disparity errors against their definitions in numpy, and the constants they are compared with."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.annotation.stereo import Stereo, stereo_value
from ubertrain.errors import DataError
from ubertrain.metrics import DisparityErrors, StereoErrors

WIDTH = 64


def _target(shift: int = 8, rows: int = 2, *, known: bool = True, blur: int = 1) -> dict[str, Tensor]:
    """Noise, averaged over `blur` pixels along each side, seen `shift` pixels further left by the other camera."""
    values = []
    for _ in range(rows):
        noise = torch.randint(0, 256, (3, 19 + blur, WIDTH + shift + blur - 1)).float()
        wide = F.avg_pool2d(noise, blur, stride=1).to(torch.uint8)
        disparity = torch.full((20, WIDTH), shift / WIDTH) if known else None
        values.append(stereo_value(wide[..., :WIDTH].contiguous(), wide[..., shift:].contiguous(), disparity=disparity))
    return Stereo.collate(values)


def test_scores_equal_their_definitions_pooled_over_pixels() -> None:
    """Pixels whose truth is unknown and padding are left out."""
    target = _target()
    target["disparity"] = 0.02 + 0.2 * torch.rand(2, 20, WIDTH)
    target["disparity"][0, :5], target["valid"][1, :, :20] = 0, False
    answer = 0.02 + 0.2 * torch.rand(2, 20, WIDTH)
    metric = StereoErrors()
    metric.update({"disparity": answer}, target)
    known = ((target["disparity"] > 0) & target["valid"]).numpy()
    t, d = target["disparity"].double().numpy()[known], answer.double().numpy()[known]
    off = np.abs(d - t) * WIDTH
    wanted = {
        "AbsRel": np.mean(np.abs(1 / d - 1 / t) * t),
        "D1_all": np.mean((off >= 3) & (off >= 0.05 * t * WIDTH)),
        "EPE": off.mean(),
    }
    scores = metric.compute()
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
    assert scores["missing"] == 0


@pytest.mark.parametrize(("true", "off", "wrong"), [(8, 2.75, 0), (8, 3, 1), (62, 3, 0), (62, 3.25, 1)])
def test_wrong_is_off_by_3_pixels_and_by_a_twentieth(true: int, off: float, wrong: float) -> None:
    """Of both, the limit itself is wrong; neither alone is enough."""
    target, metric = _target(true, rows=1), DisparityErrors()
    metric.update({"disparity": target["disparity"] - off / WIDTH}, target)
    assert metric.compute()["D1_all"] == wrong


def test_the_right_disparity_explains_the_view() -> None:
    """Up to what only one camera sees: 8 of 64 columns."""
    target = _target()
    right, wrong = StereoErrors(), StereoErrors()
    right.update({"disparity": target["disparity"]}, target)
    wrong.update({"disparity": 0.7 * target["disparity"]}, target)
    assert right.compute()["photometric"] < 0.35 * 8 / 64 + 0.01 < wrong.compute()["photometric"]
    mirrored = {**target, "own": target["own"].flip(-1), "other": target["other"].flip(-1), "side": -target["side"]}
    other_side = StereoErrors()
    other_side.update({"disparity": target["disparity"]}, mirrored)
    assert other_side.compute()["photometric"] == pytest.approx(right.compute()["photometric"], abs=1e-6)


@pytest.mark.parametrize("nothing", [math.nan, math.inf, 0.0, -1.0])
def test_no_answer_is_counted_and_is_no_way_to_a_better_score(nothing: float) -> None:
    """It stands for a tenth of a pixel: nearly infinitely far."""
    target = _target(rows=1)
    answer = target["disparity"].clone()
    answer[0, :10] = nothing
    metric = DisparityErrors()
    metric.update({"disparity": answer}, target)
    scores = metric.compute()
    assert scores["missing"] == 0.5 and scores["D1_all"] == 0.5
    assert scores["AbsRel"] == pytest.approx(0.5 * (8 / 0.1 - 1))
    assert scores["EPE"] == pytest.approx(0.5 * 7.9)


def test_merging_parts_equals_the_whole() -> None:
    """To the last digits."""
    target, answer = _target(rows=3), 0.2 * torch.rand(3, 20, WIDTH)
    whole, merged = StereoErrors(), StereoErrors()
    whole.update({"disparity": answer}, target)
    for row in range(3):
        part = StereoErrors()
        part.update({"disparity": answer[row : row + 1]}, {name: value[row : row + 1] for name, value in target.items()})
        merged.merge(part)
    assert merged.compute() == pytest.approx(whole.compute(), rel=1e-9)


def test_without_truth_only_the_views_are_compared() -> None:
    """Everything else is nan, not 0; and all is nan without a valid pixel."""
    target = _target(known=False)
    metric = StereoErrors()
    metric.update({"disparity": torch.full((2, 20, WIDTH), 0.1)}, target)
    scores = metric.compute()
    assert scores["photometric"] > 0
    assert all(math.isnan(scores[name]) for name in ("AbsRel", "D1_all", "EPE"))
    nothing = StereoErrors()
    nothing.update(
        {"disparity": torch.full((2, 20, WIDTH), 0.1)}, {**target, "valid": torch.zeros(2, 20, WIDTH, dtype=torch.bool)}
    )
    assert all(math.isnan(score) for score in nothing.compute().values())


def test_a_prediction_of_another_size_is_refused() -> None:
    """It would be shifted by other pixels."""
    with pytest.raises(DataError, match="bring predictions to the size of their image"):
        StereoErrors().update({"disparity": torch.ones(2, 20, 2 * WIDTH)}, _target())


def test_no_other_constant_has_a_smaller_relative_error() -> None:
    """Against a fine grid; a histogram may cost it a hundredth."""
    target = _target()
    target["disparity"] = 0.02 * torch.exp(0.7 * torch.randn(2, 20, WIDTH))
    metric = DisparityErrors()
    constant = metric.constant()
    constant.observe(target)

    def error(answer: dict[str, Tensor]) -> float:
        tried = DisparityErrors()
        tried.update(answer, target)
        return tried.compute()["AbsRel"]

    best = min(error({"disparity": torch.full((2, 20, WIDTH), math.exp(step / 50))}) for step in range(-300, -50, 3))
    assert error(constant.prediction(target)) <= 1.01 * best


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_without_truth_the_best_shift_is_found(side: float) -> None:
    """8 of 64 columns, to the nearest of the shifts that are tried."""
    target = _target(known=False, blur=7)  # so that a shift that is nearly right is told from one that is not
    if side < 0:
        target = {**target, "own": target["own"].flip(-1), "other": target["other"].flip(-1), "side": -target["side"]}
    constant = StereoErrors().constant()
    constant.observe(target)
    assert float(constant.prediction(target)["disparity"][0, 0, 0]) == pytest.approx(8 / WIDTH, rel=0.12)
