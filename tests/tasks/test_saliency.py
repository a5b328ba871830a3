"""Saliency: its losses by hand, its picture; that it keeps the contract is in `test_dense`."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ubertrain.errors import ConfigError
from ubertrain.registry import TASKS
from ubertrain.tasks.saliency import Saliency


def test_both_sides_weigh_the_same() -> None:
    """One salient pixel that is missed costs as much as all others invented, whatever their number."""
    target = torch.zeros(2, 4, 5, dtype=torch.int64)
    target[:, 1, 2] = 1
    logits = torch.full((2, 1, 4, 5), -20.0)
    logits[1] = 20.0
    torch.testing.assert_close(Saliency().loss(logits, target), torch.full((2,), 10.0))


def test_the_balanced_loss_is_asmts_up_to_a_factor_of_the_image() -> None:
    """ASTMT weighs salient pixels by the share of the others and the other way round: 2 a b times ours for shares a and b."""
    logits, target = torch.randn(1, 1, 9, 8), (torch.rand(1, 9, 8) < 0.3).long()
    share = target.float().mean()
    pixels = F.binary_cross_entropy_with_logits(logits[:, 0], target.float(), reduction="none")
    weights = torch.where(target == 1, 1 - share, share)
    wanted = (weights * pixels).mean() / (2 * share * (1 - share))
    torch.testing.assert_close(Saliency().loss(logits, target), wanted.view(1))


def test_the_plain_loss_is_the_mean_over_known_pixels() -> None:
    """Against the cross-entropy of the known pixels alone."""
    logits, target = torch.randn(2, 1, 6, 7), torch.randint(0, 2, (2, 6, 7))
    target[0, :3] = 255
    loss = Saliency(loss="plain").loss(logits, target)
    first = F.binary_cross_entropy_with_logits(logits[0, 0, 3:], target[0, 3:].float())
    second = F.binary_cross_entropy_with_logits(logits[1, 0], target[1].float())
    torch.testing.assert_close(loss, torch.stack([first, second]))


@pytest.mark.parametrize(("loss", "cost"), [("balanced", 0.5 * math.log(2)), ("plain", math.log(2))])
def test_an_image_where_nothing_stands_out_is_trained_on(loss: str, cost: float) -> None:
    """It has the half that it can have."""
    task = TASKS.make("saliency", "test", loss=loss)
    prediction, target = torch.zeros(1, 1, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64)
    torch.testing.assert_close(task.loss(prediction, target), torch.tensor([cost]))


def test_a_loss_that_there_is_not_is_refused() -> None:
    """With the ones there are."""
    with pytest.raises(ConfigError, match="'balanced' or 'plain'"):
        TASKS.make("saliency", "test", loss="focal")


def test_the_picture_is_as_bright_as_the_prediction() -> None:
    """Cut to the image."""
    prediction = torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    picture = Saliency().draw(np.full((1, 2, 3), 200, np.uint8), prediction)
    assert picture[0].tolist() == [[40] * 3, [200] * 3]
