"""Constant answers: the best there is of their kind."""

import math

import pytest
import torch
import torch.nn.functional as F

from ubertrain.metrics import AngularError, BoundaryF, DepthErrors, MeanIoU, Metric
from ubertrain.metrics.constants import ConstantDepth, Hatching, MajorityClass, MeanNormal, NoBoxes


def test_the_majority_class_is_counted_over_labelled_pixels() -> None:
    """Ignored pixels do not vote."""
    constant = MajorityClass(3)
    constant.observe(torch.tensor([[[2, 2, 1, 255, 255, 255]]]))
    constant.observe(torch.tensor([[[1, 1, 0, 255, 255, 255]]]))
    metric = MeanIoU(3)
    metric.update(constant.prediction(torch.zeros(2, 4, 5, dtype=torch.int64)), torch.ones(2, 4, 5, dtype=torch.int64))
    assert metric.compute()["pixel_accuracy"] == 1


def test_no_other_depth_has_a_smaller_relative_error() -> None:
    """Against a search over a fine grid; a histogram may cost it a hundredth."""
    depth = torch.exp(1 + torch.randn(2, 40, 50))
    depth[0, :10] = 0
    constant = ConstantDepth()
    for image in depth:
        constant.observe(image[None])

    def error(metres: float) -> float:
        metric = DepthErrors()
        metric.update(torch.full_like(depth, metres), depth)
        return metric.compute()["AbsRel"]

    best = min(error(math.exp(step / 50)) for step in range(-150, 250))
    assert error(constant.metres) <= 1.01 * best
    assert torch.equal(constant.prediction(depth), torch.full_like(depth, constant.metres))


def test_the_mean_normal_is_the_direction_of_the_sum() -> None:
    """Unknown normals do not vote."""
    normals = F.normalize(torch.randn(2, 3, 6, 7) + torch.tensor([1.0, 0.0, -1.0]).view(3, 1, 1), dim=1)
    normals[0, :, :3] = 0
    constant = MeanNormal()
    constant.observe(normals)
    answer = constant.prediction(normals)
    torch.testing.assert_close(answer, F.normalize(normals.sum((0, 2, 3)), dim=0).view(1, 3, 1, 1).expand_as(answer))


def test_hatching_is_twice_as_dense_as_the_drawings() -> None:
    """As those of all annotators together, or class by class over the images that show the class."""
    target = torch.zeros(2, 3, 40, 30, dtype=torch.uint8)
    target[:, 0, ::20], target[:, 1, ::10], target[:, 2] = 1, 1, 255
    target[1, 0] = 0
    one, many = Hatching(), Hatching(3)
    for image in target:
        one.observe(image[None])
        many.observe(image[None])
    assert one.prediction(target).sum(dim=(1, 2)).tolist() == [8 * 30] * 2  # every 5th row
    assert many.prediction(target).sum(dim=(2, 3)).tolist() == [[4 * 30, 8 * 30, 4 * 30]] * 2  # every 10th, 5th, 10th


def test_no_boxes_are_padding_only() -> None:
    """One unused row per image."""
    answer = NoBoxes().prediction({"boxes": torch.zeros(2, 5, 4), "classes": torch.zeros(2, 5, dtype=torch.int64)})
    shapes = {name: tuple(values.shape) for name, values in answer.items()}
    assert shapes == {"boxes": (2, 1, 4), "scores": (2, 1), "classes": (2, 1)}
    assert (answer["classes"] == -1).all() and answer["classes"].dtype == torch.int64


@pytest.mark.parametrize(
    ("metric", "target"),
    [
        (MeanIoU(3), torch.tensor([[[0, 1], [1, 255]]])),
        (DepthErrors(), torch.tensor([[[1.0, 2.0], [4.0, 0.0]]])),
        (AngularError(), torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)),
        (BoundaryF(), torch.tensor([[[[0, 1], [0, 255]]]], dtype=torch.uint8)),
    ],
)
def test_each_metric_scores_its_own_constant(metric: Metric, target: torch.Tensor) -> None:
    """Fitted to labels or not, the answer has the form of a prediction."""
    constant = metric.constant()
    assert constant is not None
    metric.update(constant.prediction(target), target)
    constant.observe(target)
    metric.update(constant.prediction(target), target)
    assert math.isfinite(metric.compute()[metric.primary])
