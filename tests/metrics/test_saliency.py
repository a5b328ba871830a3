"""Saliency scores against loops over images and thresholds, and against another implementation on real masks."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics import MeanIoU, SaliencyF
from ubertrain.metrics.constants import MeanMask
from ubertrain.metrics.s_measure import s_measure

PYSODMETRICS = {"maxF": 0.9250279882367849, "MAE": 0.1797805576085498, "S": 0.7944521105839008}
"""What Fmeasure, MAE and Smeasure of that package give for the maps of a test below; F from its mean precision and recall."""


def _images() -> tuple[Tensor, Tensor]:
    """Five predictions in steps of 1/255 and their truths, with unknown pixels; one prediction is empty, one is the truth."""
    truth = (torch.rand(5, 12, 13) < torch.linspace(0.1, 0.6, 5).view(-1, 1, 1)).long()
    levels = (255 * (0.5 * truth + 0.7 * torch.rand(5, 12, 13)).clamp(max=1)).round()
    levels[1], levels[2] = 0, 255 * truth[2]
    return levels / 255, torch.where(torch.rand(5, 12, 13) < 0.2, 255, truth)


def _scored(prediction: Tensor, truth: Tensor) -> dict[str, float]:
    metric = SaliencyF()
    metric.update(prediction, truth)
    return metric.compute()


def _f(precision: float, recall: float, beta_squared: float) -> float:
    lower = beta_squared * precision + recall
    return (1 + beta_squared) * precision * recall / lower if lower else 0.0


class Slow:
    """The same scores image by image and threshold by threshold."""

    def __init__(self, prediction: Tensor, truth: Tensor) -> None:
        levels = (255 * prediction).round().long().numpy()
        self.images = [(p[t != 255], t[t != 255] == 1) for p, t in zip(levels, truth.numpy(), strict=True)]

    def at(self, mask: object) -> list[tuple[int, int, int]]:
        """For each image how many pixels are salient, marked by `mask`, and both."""
        assert callable(mask)
        marked = [(mask(p), t) for p, t in self.images]
        return [(int(t.sum()), int(m.sum()), int((m & t).sum())) for m, t in marked]

    def max_f(self) -> float:
        best = 0.0
        for threshold in range(256):
            counts = self.at(lambda p, threshold=threshold: p >= threshold)
            precision = np.mean([both / marked if marked else 0 for _, marked, both in counts])
            recall = np.mean([both / salient for salient, _, both in counts])
            best = max(best, _f(float(precision), float(recall), 0.3))
        return best

    def max_mean_f(self) -> float:
        averages = []
        for threshold in range(256):
            counts = self.at(lambda p, threshold=threshold: p >= threshold)
            averages.append(np.mean([_f(both / marked if marked else 0, both / s, 0.3) for s, marked, both in counts]))
        return float(max(averages))

    def pooled(self) -> float:
        best = 0.0
        for step in range(1, 20):
            counts = np.sum(self.at(lambda p, step=step: 20 * p >= 255 * step), axis=0)
            best = max(best, _f(counts[2] / max(counts[1], 1), counts[2] / counts[0], 0.3))
        return best

    def astmt(self) -> tuple[float, float]:
        ious, fs = [], []
        for step in range(4, 19):
            counts = self.at(lambda p, step=step: 20 * p > 255 * step)
            ious.append(np.mean([both / (s + m - both) if s + m else 1 for s, m, both in counts]))
            precision = np.mean([both / (marked + 1e-12) for _, marked, both in counts])
            recall = np.mean([both / (salient + 1e-12) for salient, _, both in counts])
            fs.append(_f(float(precision), float(recall), 1))
        return float(max(ious)), float(max(fs))


def test_every_convention_equals_its_loop() -> None:
    """With unknown pixels, an empty prediction and a perfect one."""
    prediction, truth = _images()
    scores, slow = _scored(prediction, truth), Slow(prediction, truth)
    miou, f1 = slow.astmt()
    mae = np.mean([np.abs(p / 255 - t).mean() for p, t in slow.images])
    wanted = {
        "maxF": slow.max_f(),
        "maxF_image": slow.max_mean_f(),
        "maxF_pooled": slow.pooled(),
        "mIoU_astmt": miou,
        "maxF_astmt": f1,
        "MAE": mae,
    }
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted, abs=1e-9)
    assert len({scores[name] for name in ("maxF", "maxF_image", "maxF_pooled", "maxF_astmt")}) == 4
    assert scores["S"] == pytest.approx(s_measure(prediction, truth).mean().item(), abs=1e-6)


def test_real_masks_score_as_another_implementation_has_it(data_root: Path) -> None:
    """PySODMetrics 1.6.2 on 20 masks of ECSSD, mixed with themselves moved and with a ramp."""
    metric = SaliencyF()
    for number, file in enumerate(sorted((data_root / "ECSSD" / "ground_truth_mask").glob("*.png"))[:20]):
        truth = np.array(Image.open(file)).astype(np.int64) // 255
        across = np.linspace(0, 255, truth.shape[1]).astype(np.int64)  # grows to the right, as a map that is badly wrong may
        levels = (102 * truth + 76 * np.roll(truth, (5, 3 * number), axis=(0, 1)) + across * 76 // 255) % 255
        metric.update(torch.tensor(levels / 255)[None].float(), torch.tensor(truth)[None])
    scores = metric.compute()
    assert {name: scores[name] for name in PYSODMETRICS} == pytest.approx(PYSODMETRICS, abs=1e-6)


def test_the_truth_is_perfect() -> None:
    """Every score is at its best; the constant 1/2 is not."""
    truth = (torch.rand(2, 9, 8) < 0.4).long()
    best = {"maxF": 1, "maxF_image": 1, "MAE": 0, "S": 1, "maxF_pooled": 1, "mIoU_astmt": 1, "maxF_astmt": 1}
    scores = _scored(truth.float(), truth)
    assert {name: scores[name] for name in best} == pytest.approx(best)
    assert _scored(torch.full((2, 9, 8), 0.5), truth)["maxF"] < 0.6


def test_an_image_without_an_object_has_no_recall() -> None:
    """It leaves maxF as it is and counts in the error; in ASTMT's convention it halves precision and recall."""
    truth = torch.zeros(2, 4, 4, dtype=torch.int64)
    truth[0, :2] = 1
    with_empty, alone = _scored(truth.float(), truth), _scored(truth[:1].float(), truth[:1])
    assert with_empty["maxF"] == alone["maxF"] == with_empty["maxF_image"] == 1
    assert with_empty["maxF_astmt"] == pytest.approx(0.5)
    assert with_empty["mIoU_astmt"] == 1
    assert _scored(torch.ones(2, 4, 4), truth)["MAE"] == 0.75
    assert math.isnan(_scored(truth[1:].float(), truth[1:])["maxF"])


@pytest.mark.parametrize("wrong", [math.nan, -0.5, 1.5])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    """A nan would count as 0 unnoticed; where nothing is known it has no effect."""
    prediction, truth = torch.full((1, 2, 3), 0.5), torch.ones(1, 2, 3, dtype=torch.int64)
    prediction[0, 1, 1] = wrong
    with pytest.raises(DataError, match=f"numbers from 0 to 1; this one holds {wrong:g}"):
        SaliencyF().update(prediction, truth)
    truth[0, 1, 1] = 255
    assert _scored(prediction, truth)["MAE"] == pytest.approx(0.5, abs=0.002)


def test_the_curve_is_what_the_score_is_read_from() -> None:
    """Recall falls from 1 as the threshold rises, and the best F lies on the curve at the threshold that is reported."""
    metric = SaliencyF()
    metric.update(*_images())
    precision, recall = metric.curve()
    assert recall[0] == 1 and (recall.diff() <= 0).all()
    place = round(255 * metric.compute()["threshold"])
    assert _f(precision[place].item(), recall[place].item(), 0.3) == pytest.approx(metric.compute()["maxF"])


def test_the_centre_prior_is_the_mean_mask() -> None:
    """Objects that were always at the same place are expected there, at any size; unknown pixels do not vote."""
    truth = torch.zeros(4, 64, 64, dtype=torch.int64)
    truth[:, 16:48, 16:48] = 1
    truth[0] = 255
    constant = MeanMask()
    assert (constant.prediction(truth) == 0.5).all()
    constant.observe(truth)
    answer = constant.prediction(torch.zeros(2, 32, 32, dtype=torch.int64))
    assert answer.shape == (2, 32, 32)
    torch.testing.assert_close(answer, truth[1, ::2, ::2].float().expand(2, -1, -1))
    whole = SaliencyF()
    whole.update(constant.prediction(truth), truth)
    assert whole.compute()["maxF"] > 0.95


def test_merging_two_kinds_of_metric_is_a_bug() -> None:
    """Sums of another metric are not added."""
    with pytest.raises(AssertionError):
        SaliencyF().merge(MeanIoU(2))
