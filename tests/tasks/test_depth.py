"""Depth: its losses by hand, its start, its range."""

import math

import numpy as np
import pytest
import torch

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.tasks.depth import Depth, Loss

TRUTH = torch.tensor([[[1.0, 2.0], [4.0, 0.0]]])


def test_log_l1_is_the_mean_logarithm_of_the_factor() -> None:
    """Twice too near and twice too far cost the same: ln 2."""
    answer = torch.tensor([[[2.0, 1.0], [8.0, 1.0]]]).log()[:, None]
    assert float(Depth().loss(answer, TRUTH)) == pytest.approx(math.log(2))


def test_l1_is_the_mean_difference_in_metres() -> None:
    """1, 1 and 4 metres."""
    answer = torch.tensor([[[2.0, 1.0], [8.0, 1.0]]]).log()[:, None]
    assert float(Depth(loss="l1").loss(answer, TRUTH)) == pytest.approx(2)


@pytest.mark.parametrize("width", [0, 16])
def test_a_new_head_answers_its_start(width: int) -> None:
    """On average, so that training begins at a sensible depth."""
    head = Depth(width=width, start=5.0).make_head([Level(8, 4)]).eval()
    answer = head([torch.randn(2, 8, 4, 4)])
    assert answer.shape == (2, 16, 16)
    assert (answer / 5).log().abs().mean().item() < 0.25


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_answers_are_positive_and_finite_whatever_the_scores(scale: float) -> None:
    """Between a millimetre and a kilometre or so."""
    head = Depth(width=0).make_head([Level(8, 4)]).eval()
    head.score[0].bias.data.fill_(scale)
    answer = head([torch.randn(1, 8, 4, 4)])
    assert 1e-4 < answer.min().item() <= answer.max().item() < 2e3


@pytest.mark.parametrize("loss", ["log_l1", "l1", "scale_invariant", "berhu"])
def test_scores_out_of_range_still_have_a_gradient(loss: Loss) -> None:
    """A head which went astray comes back."""
    scores = torch.full((1, 1, 2, 2), 50.0, requires_grad=True)
    Depth(loss=loss).loss(scores, TRUTH).sum().backward()
    assert (scores.grad[0, 0][TRUTH[0] > 0] > 0).all()


@pytest.mark.parametrize("start", [0.0, -1.0, 1e5])
def test_a_start_that_no_head_can_answer_is_refused(start: float) -> None:
    """With the range in the message."""
    with pytest.raises(ConfigError, match="between 0 and 1097"):
        Depth(start=start)


def test_the_picture_is_of_the_images_size() -> None:
    """Near and far have different colours."""
    picture = Depth().draw(np.zeros((3, 5, 3), np.uint8), torch.linspace(1, 4, 8).expand(4, 8))
    assert picture.shape == (3, 5, 3) and (picture[:, 0] != picture[:, 4]).any()
