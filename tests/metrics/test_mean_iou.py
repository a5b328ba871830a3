"""Intersection over union against a count by hand and a loop over pixels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics import MeanIoU
from ubertrain.metrics.mean_iou import Absent


def _scores(ids: Tensor, classes: int) -> Tensor:
    """Scores (rows, classes, height, width) that name `ids`."""
    return F.one_hot(ids, classes).permute(0, 3, 1, 2).float()


def test_scores_equal_a_loop_over_pixels() -> None:
    """On random labels with ignored pixels."""
    truth = torch.randint(0, 4, (3, 8, 9))
    truth[torch.rand(truth.shape) < 0.3] = 255
    answer = torch.randint(0, 4, (3, 8, 9))
    metric = MeanIoU(4)
    metric.update(_scores(answer, 4), truth)
    t, p = truth.numpy(), answer.numpy()
    known = t != 255
    ious = [np.sum((t == c) & (p == c)) / np.sum(known & ((t == c) | (p == c))) for c in range(4)]
    recalls = [np.sum((t == c) & (p == c)) / np.sum(t == c) for c in range(4)]
    shares = [np.mean(t[known] == c) for c in range(4)]
    wanted = {"mIoU": np.mean(ious), "mean_accuracy": np.mean(recalls), "pixel_accuracy": np.mean((t == p)[known]),
              "frequency_weighted_iou": np.dot(shares, ious)}  # fmt: skip
    assert metric.compute() == pytest.approx(wanted)
    assert metric.class_iou() == pytest.approx(dict(zip("0123", ious, strict=True)))


def test_a_class_that_the_truth_never_shows_is_left_out() -> None:
    """Predicting it costs the class whose pixels it takes, and no more: 3 of 4 pixels right is an IoU of 3/4, not of 3/8."""
    metric = MeanIoU(["sky", "road", "never"])
    metric.update(_scores(torch.tensor([[[0, 0], [0, 2]]]), 3), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert metric.compute()["mIoU"] == 0.75
    assert metric.class_iou() == pytest.approx({"sky": 0.75, "road": math.nan, "never": math.nan}, nan_ok=True)


@pytest.mark.parametrize(
    ("absent", "ious"),
    [("left_out", [0.75]), ("if_predicted", [0.75, 0]), ("zero", [0.75, 0, 0])],
)
def test_conventions_differ_about_classes_that_the_truth_never_shows(absent: Absent, ious: list[float]) -> None:
    """One of three is predicted at one pixel, another nowhere; nothing else depends on the convention."""
    metric, usual = MeanIoU(3, absent=absent), MeanIoU(3)
    for each in (metric, usual):
        each.update(_scores(torch.tensor([[[0, 0], [0, 2]]]), 3), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert metric.compute() == {**usual.compute(), "mIoU": pytest.approx(sum(ious) / len(ious))}


def test_a_class_that_is_never_found_counts_zero() -> None:
    """It occurs in the truth."""
    metric = MeanIoU(2)
    metric.update(_scores(torch.tensor([[[0, 0]]]), 2), torch.tensor([[[0, 1]]]))
    assert metric.compute()["mIoU"] == 0.25


def test_merging_parts_gives_the_sums_of_the_whole() -> None:
    """Exactly, since they are counts."""
    answer, truth = torch.randn(5, 3, 6, 7), torch.randint(0, 3, (5, 6, 7))
    whole, first, second = MeanIoU(3), MeanIoU(3), MeanIoU(3)
    whole.update(answer, truth)
    first.update(answer[:2], truth[:2])
    second.update(answer[2:], truth[2:])
    first.merge(second)
    assert torch.equal(first.sums, whole.sums)


def test_a_larger_prediction_is_cut_to_the_labels() -> None:
    """What lies beyond the image does not count."""
    truth = torch.randint(0, 3, (2, 5, 7))
    metric = MeanIoU(3)
    metric.update(_scores(F.pad(truth, (0, 1, 0, 3), value=2), 3), truth)
    assert metric.compute()["mIoU"] == 1


@pytest.mark.parametrize(("wrong", "given"), [(3, "0 to 3"), (-1, "-1 to 0"), (254, "0 to 254")])
def test_an_id_that_is_no_class_is_refused(wrong: int, given: str) -> None:
    """It would be counted under another pair of classes."""
    with pytest.raises(DataError, match=f"class ids {given} in the labels; there are 3 classes"):
        MeanIoU(3).update(torch.zeros(1, 3, 1, 2), torch.tensor([[[0, wrong]]]))


def test_predicted_ids_count_as_scores_do() -> None:
    """Of any integer dtype; what is predicted where nothing is labelled may be anything."""
    truth, answer = torch.randint(0, 3, (2, 5, 7)), torch.randint(0, 3, (2, 5, 7))
    truth[:, 0] = 255
    metric, from_scores = MeanIoU(3), MeanIoU(3)
    from_scores.update(_scores(answer, 3), truth)
    answer[:, 0] = 200
    metric.count(answer.to(torch.uint8), truth.to(torch.uint8))
    assert torch.equal(metric.sums, from_scores.sums)


def test_a_predicted_id_that_is_no_class_is_refused() -> None:
    """255 too: a prediction must say something about a labelled pixel."""
    with pytest.raises(DataError, match="class ids 0 to 255 in the prediction"):
        MeanIoU(3).count(torch.tensor([[[0, 255]]]), torch.tensor([[[0, 1]]]))


@pytest.mark.parametrize("size", [(40, 39), (8, 39), (40, 7)])
def test_a_prediction_of_another_resolution_is_refused(size: tuple[int, int]) -> None:
    """Cut or continued it would score something else."""
    with pytest.raises(DataError, match="bring predictions to the size of their image"):
        MeanIoU(3).update(torch.zeros(1, 3, *size), torch.zeros(1, 8, 7, dtype=torch.int64))


def test_nan_in_a_prediction_is_refused() -> None:
    """The image is named; where nothing is labelled it does not matter, and infinities have an order."""
    prediction, truth = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)
    prediction[1, 2, 3, 3], prediction[0, 1] = torch.nan, -torch.inf
    with pytest.raises(DataError, match="image 1 of the batch is nan at 1 of its labelled pixels"):
        MeanIoU(3).update(prediction, truth)
    truth[1, 3, 3] = 255
    MeanIoU(3).update(prediction, truth)


@pytest.mark.parametrize("absent", ["left_out", "if_predicted", "zero"])
def test_without_labels_everything_is_nan(absent: Absent) -> None:
    """Before any update and with every pixel ignored."""
    metric = MeanIoU(2, absent=absent)
    assert all(math.isnan(score) for score in metric.compute().values())
    metric.update(torch.zeros(1, 2, 3, 3), torch.full((1, 3, 3), 255))
    assert all(math.isnan(score) for score in metric.compute().values())
