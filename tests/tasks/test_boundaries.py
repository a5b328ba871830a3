"""Boundaries: consensus of annotators, balance of the loss, picture."""

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.tasks.boundaries import Boundaries
from ubertrain.testing import check_task


def _pixels(*votes: str) -> Tensor:
    """Labels (1, annotators, 1, pixels); each pixel is a string with what each annotator says: 1, 0 or ?."""
    planes = [[255 if vote == "?" else int(vote) for vote in annotators] for annotators in zip(*votes, strict=True)]
    return torch.tensor(planes, dtype=torch.uint8)[None, :, None]


@pytest.mark.parametrize(
    ("agreement", "votes", "meaning"),
    [
        (0.5, "11100", "yes"), (0.5, "11000", "left out"), (0.5, "1100", "yes"), (0.5, "00000", "no"), (0.5, "10", "yes"),
        (0.6, "11100", "yes"), (0.8, "11100", "left out"), (1.0, "111", "yes"), (1.0, "110", "left out"),
        (0.01, "10000", "yes"), ("union", "1000000000", "yes"), ("union", "0000", "no"),
        (0.5, "1??0", "yes"), (0.5, "0??0", "no"), (0.5, "????", "left out"), (0.5, "1???", "yes"),
    ],
)  # fmt: skip
def test_annotators_agree_on_a_boundary(agreement: float | Literal["union"], votes: str, meaning: str) -> None:
    """Shares are of those who know the pixel."""
    task, scores = Boundaries(agreement=agreement), torch.zeros(1, 1, 1, 1, requires_grad=True)
    task.loss(scores, _pixels(votes)).sum().backward()
    assert {-1: "yes", 0: "left out", 1: "no"}[int(scores.grad.sign())] == meaning


def test_the_loss_is_half_of_either_sides_mean() -> None:
    """By hand: one boundary pixel at p = 1/4, three others at 1/2, 1/2 and 1/8, and one that is left out."""
    p = torch.tensor([0.25, 0.5, 0.5, 0.125, 0.9])
    loss = Boundaries().loss(p.logit().view(1, 1, 1, 5), _pixels("1110", "0000", "0000", "0000", "1000"))
    assert float(loss) == pytest.approx((-math.log(0.25) - (2 * math.log(0.5) + math.log(0.875)) / 3) / 2)


def test_the_loss_is_heds_up_to_a_factor() -> None:
    """Equation 2 of HED over its number of pixels and 2 beta (1 - beta)."""
    logits, target = torch.randn(1, 1, 8, 9), (torch.rand(1, 1, 8, 9) < 0.2).to(torch.uint8)
    p, edge = logits.sigmoid().double()[0, 0], target[0, 0] == 1
    beta = float((~edge).double().mean())
    hed = -beta * p[edge].log().sum() - (1 - beta) * (1 - p[~edge]).log().sum()
    assert float(Boundaries().loss(logits, target)) == pytest.approx(float(hed) / (72 * 2 * beta * (1 - beta)), rel=1e-5)


def test_each_image_is_balanced_on_its_own() -> None:
    """The loss of undecided answers is ln 2 for any share of boundaries; an image without any has half of it."""
    target = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    target[0, 0, 0, 0] = 1
    target[1, 0, :5] = 1
    loss = Boundaries().loss(torch.zeros(3, 1, 8, 8), target)
    torch.testing.assert_close(loss, math.log(2) * torch.tensor([1.0, 1.0, 0.5]))


def test_bags_hold_labelled_pixels_only() -> None:
    """A boundary that is predicted where nobody labelled does not find the one beside it."""
    target, logits = torch.zeros(1, 1, 5, 9, dtype=torch.uint8), torch.full((1, 1, 5, 9), -8.0)
    target[..., 4], logits[..., 5] = 1, 8.0
    task = Boundaries(loss="mil", radius=1)
    assert float(task.loss(logits, target)) < 0.01
    target[..., 5] = 255
    assert float(task.loss(logits, target)) == pytest.approx(4, abs=0.01)  # half of 8


@pytest.mark.parametrize("loss", ["balanced", "mil"])
def test_every_side_output_has_the_loss_of_a_map(loss: Literal["balanced", "mil"]) -> None:
    """The loss of several maps is the mean of theirs: HED's sum over the fused and the side outputs, up to their number."""
    logits, target = torch.randn(2, 4, 8, 9), (torch.rand(2, 3, 8, 9) < 0.2).to(torch.uint8)
    task = Boundaries(loss=loss, sides=True)
    each = torch.stack([task.loss(logits[:, k : k + 1], target) for k in range(4)])
    torch.testing.assert_close(task.loss(logits, target), each.mean(dim=0))


@pytest.mark.parametrize("width", [0, 12])
def test_sides_answer_level_by_level_and_once_for_all(width: int) -> None:
    """In training the fused map, at first the mean, and one for each level; in eval mode the fused probability."""
    head = Boundaries(width=width, sides=True).make_head([Level(6, 4), Level(8, 8)])
    levels = [torch.randn(2, 6, 5, 4), torch.randn(2, 8, 3, 2)]
    maps, answer = head(levels), head.eval()(levels)
    assert maps.shape == (2, 3, 20, 16)
    torch.testing.assert_close(maps[:, 0], maps[:, 1:].mean(dim=1))
    torch.testing.assert_close(answer, maps[:, 0].sigmoid())


@pytest.mark.parametrize(
    "keys",
    [{}, {"loss": "mil", "agreement": "union"}, {"sides": True, "width": 0}, {"sides": True, "width": 12, "loss": "mil"}],
)
def test_every_form_keeps_the_contract(keys: dict[str, Any]) -> None:
    """Shapes, gradients, missing labels, determinism, narrow runs, scores."""
    check_task(Boundaries(**keys))


def test_the_metric_is_the_benchmark() -> None:
    """With the task's tolerance, at a third of its thresholds."""
    metric = Boundaries(tolerance=0.011).metric()
    assert (metric.primary, metric.tolerance, len(metric.thresholds)) == ("ODS", 0.011, 33)


@pytest.mark.parametrize("width", [0, 16])
def test_a_new_head_is_undecided(width: int) -> None:
    """It answers probabilities near 1/2 at the resolution of the image."""
    answer = Boundaries(width=width).make_head([Level(8, 4)]).eval()([torch.randn(2, 8, 4, 4)])
    assert answer.shape == (2, 16, 16)
    assert (answer - 0.5).abs().mean().item() < 0.15


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"agreement": 0.0}, "agreement is a share"),
        ({"agreement": 1.5}, "agreement is a share"),
        ({"loss": "hed"}, "loss is 'balanced' or 'mil'.* given are 'hed'"),
        ({"loss": "mil", "radius": -1}, "radius from 0 to 32"),
        ({"tolerance": 0}, "tolerance is a share"),
        ({"thresholds": 0}, "at least one threshold"),
    ],
)
def test_keys_that_mean_nothing_are_refused(keys: dict[str, Any], message: str) -> None:
    """The message says what is expected and what was given."""
    with pytest.raises(ConfigError, match=message):
        Boundaries(**keys)


def test_the_picture_is_dark_on_white() -> None:
    """And cut to the image."""
    answer = torch.zeros(4, 8)
    answer[1] = 1
    picture = Boundaries().draw(np.zeros((3, 6, 3), np.uint8), answer)
    assert picture.shape == (3, 6, 3)
    assert (picture[0] == 255).all() and (picture[1] == 0).all()
