"""Parts are scored over the images that show one."""

import math

import torch

from ubertrain.metrics import MeanIoU, PartsIoU


def test_images_without_a_part_are_left_out() -> None:
    """Parts that are invented in them cost nothing; the other images score as any segmentation."""
    answer, truth = torch.randn(4, 3, 6, 7), torch.randint(0, 3, (4, 6, 7))
    truth[1] = 0
    truth[3] = torch.where(torch.rand(6, 7) < 0.5, 0, 255)
    parts, whole = PartsIoU(3), MeanIoU(3)
    parts.update(answer, truth)
    whole.update(answer[::2], truth[::2])
    assert torch.equal(parts.sums, whole.sums)


def test_the_background_may_have_another_id() -> None:
    """Then an image of that id alone is left out, and one of id 0 alone is not."""
    metric = PartsIoU(["head", "torso", "background"], background=2)
    metric.update(torch.zeros(2, 3, 2, 2), torch.tensor([[[2, 2], [2, 255]], [[0, 0], [0, 0]]]))
    assert metric.sums.sum() == 4


def test_labels_are_not_written_to() -> None:
    """Other tasks read them."""
    truth = torch.zeros(1, 2, 2, dtype=torch.int64)
    PartsIoU(2).update(torch.zeros(1, 2, 2, 2), truth)
    assert not truth.any()


def test_without_a_part_there_is_no_score() -> None:
    """Background alone says nothing about parts."""
    metric = PartsIoU(2)
    metric.update(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert math.isnan(metric.compute()["mIoU"])
