"""Losses of depth by brute force in float64, pixel by pixel."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.registry import TASKS
from ubertrain.tasks.depth import Depth
from ubertrain.testing import check_task

OPTIONS: list[dict[str, Any]] = [
    {"loss": "scale_invariant"},
    {"loss": "berhu"},
    {"loss": "ordinal", "bins": 16, "between": [0.5, 8.0]},
    {"gradient": 0.5},
    {"loss": "scale_invariant", "gradient": 1.0},
]
every_option = pytest.mark.parametrize("keywords", OPTIONS, ids=["-".join(map(str, keys.values())) for keys in OPTIONS])


def _labels(*size: int) -> Tensor:
    """Metres (rows, height, width) float64, about a third without a reading."""
    depth = 0.6 + 6 * torch.rand(size, dtype=torch.float64)
    return torch.where(torch.rand(size) < 0.3, 0.0, depth)


def _log_metres(*size: int) -> Tensor:
    rows, height, width = size
    return 1 + 0.5 * torch.randn(rows, 1, height, width, dtype=torch.float64)


def _channels(keywords: dict[str, Any]) -> int:
    return keywords.get("bins", 2) - 1


@every_option
@pytest.mark.parametrize("width", [0, 16])
def test_it_keeps_the_contract(keywords: dict[str, Any], width: int) -> None:
    """With UberNet's head and with the wider one."""
    check_task(TASKS.make("depth", "test", **keywords, width=width))


@pytest.mark.parametrize("invariance", [0.0, 0.5, 1.0])
def test_scale_invariance_is_eigens(invariance: float) -> None:
    """1/n sum d^2 - lambda / n^2 (sum d)^2."""
    scores, target = _log_metres(2, 5, 6), _labels(2, 5, 6)
    expected = []
    for score, depth in zip(scores[:, 0].numpy(), target.numpy(), strict=True):
        d = (score - np.log(np.where(depth > 0, depth, 1)))[depth > 0]
        expected.append((d**2).sum() / d.size - invariance * d.sum() ** 2 / d.size**2)
    assert Depth(loss="scale_invariant", invariance=invariance).loss(scores, target).tolist() == pytest.approx(expected)


def test_full_invariance_does_not_see_the_scale() -> None:
    """Half of it halves what the scale costs."""
    target = _labels(1, 6, 6)
    twice = (2 * target.clamp(min=1e-3)).log()[:, None]
    losses = [float(Depth(loss="scale_invariant", invariance=share).loss(twice, target)) for share in (0, 0.5, 1)]
    assert losses == pytest.approx([math.log(2) ** 2, math.log(2) ** 2 / 2, 0], abs=1e-12)


def _reverse_huber(differences: np.ndarray) -> np.ndarray:
    knee = np.abs(differences).max() / 5
    return np.array([abs(x) if abs(x) <= knee else (x * x + knee * knee) / (2 * knee) for x in differences])


def test_reverse_huber_is_lainas_with_the_knee_of_each_image() -> None:
    """And the gradient is that of a fixed knee: the sign up to it, x / c beyond."""
    scores, target = _log_metres(2, 5, 6).requires_grad_(), _labels(2, 5, 6)
    loss = Depth(loss="berhu").loss(scores, target)
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    for row in range(2):
        known, answer = target[row] > 0, scores[row, 0].detach().exp()
        x = (answer - target[row])[known].numpy()
        assert loss[row].item() == pytest.approx(_reverse_huber(x).mean())
        knee = np.abs(x).max() / 5
        slope = np.where(np.abs(x) <= knee, np.sign(x), x / knee) / x.size * answer[known].numpy()
        np.testing.assert_allclose(gradient[row, 0][known], slope, atol=1e-12)


def test_reverse_huber_of_a_perfect_answer_is_zero_with_a_finite_gradient() -> None:
    """Where the largest difference, and so the knee, is 0."""
    target = torch.ones(1, 3, 4)
    scores = torch.zeros(1, 1, 3, 4, requires_grad=True)
    loss = Depth(loss="berhu").loss(scores, target)
    loss.sum().backward()
    assert loss.item() == 0 and scores.grad.isfinite().all()


def _gradient_matching(apart: np.ndarray, known: np.ndarray) -> float:
    """One image's term, by loops."""
    total = 0.0
    for step in (1, 2, 4, 8):
        part, mask, changes = apart[::step, ::step], known[::step, ::step], 0.0
        for y, x in np.argwhere(mask):
            for below, beside in ((1, 0), (0, 1)):
                if y + below < mask.shape[0] and x + beside < mask.shape[1] and mask[y + below, x + beside]:
                    changes += abs(part[y + below, x + beside] - part[y, x])
        total += changes / max(mask.sum(), 1)
    return total


def test_gradient_matching_is_that_of_midas() -> None:
    """Added to the loss with its weight."""
    scores, target = _log_metres(2, 19, 23), _labels(2, 19, 23)
    known = (target > 0).numpy()
    apart = (scores[:, 0] - torch.where(target > 0, target, 1.0).log()).numpy()
    added = Depth(gradient=0.5).loss(scores, target) - Depth().loss(scores, target)
    assert (2 * added).tolist() == pytest.approx([_gradient_matching(*row) for row in zip(apart, known, strict=True)])


def test_gradient_matching_does_not_see_scale_but_shape() -> None:
    """A constant factor is free; a step where there is none is not."""
    target = torch.full((1, 16, 16), 2.0)
    flat, step = torch.ones(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    step[..., 8:] += 0.1
    terms = [float(Depth(gradient=1.0).loss(scores, target) - Depth().loss(scores, target)) for scores in (flat, step)]
    assert terms[0] == pytest.approx(0, abs=1e-6)
    assert terms[1] == pytest.approx(0.1 * (1 / 16 + 1 / 8 + 1 / 4 + 1 / 2), rel=1e-4)


def test_ordinal_surprise_is_the_mean_over_borders() -> None:
    """Every border asks whether the depth lies beyond it; the first and last interval hold all nearer and farther."""
    task, target = Depth(loss="ordinal", bins=16, between=(0.5, 8.0)), _labels(2, 4, 5)
    target[0, 0, :2] = torch.tensor([0.1, 30.0])
    logits = torch.randn(2, 15, 4, 5, dtype=torch.float64)
    borders = [0.5 * 16 ** (k / 16) for k in range(1, 16)]
    expected = []
    for score, depth in zip(logits.numpy(), target.numpy(), strict=True):
        surprises = []
        for y, x in np.argwhere(depth > 0):
            beyond = 1 / (1 + np.exp(-score[:, y, x]))
            right = [p if depth[y, x] >= border else 1 - p for p, border in zip(beyond, borders, strict=True)]
            surprises.append(-np.mean(np.log(right)))
        expected.append(np.mean(surprises))
    assert task.loss(logits, target).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("depth", "answer"), [(0.1, 0.75), (0.9, 0.75), (1.1, 1.5), (2.5, 3.0), (7.9, 6.0), (100.0, 6.0)])
def test_ordinal_answers_are_the_middles_of_intervals(depth: float, answer: float) -> None:
    """Of 0.5 to 8 metres in four intervals, each twice as long as the one before."""
    task = Depth(loss="ordinal", bins=4, between=(0.5, 8.0))
    assert task.ordinal is not None
    beyond = torch.tensor([4.0 if depth >= border else -4.0 for border in (1, 2, 4)]).view(1, 3, 1, 1)
    assert float(task.ordinal.decode(beyond)) == pytest.approx(answer)


@pytest.mark.parametrize("keywords", [keys for keys in OPTIONS if keys.get("loss") != "berhu"])
def test_gradients_equal_finite_differences(keywords: dict[str, Any]) -> None:
    """In float64. (The reverse Huber loss leaves out the knee on purpose; its gradient is tested by its formula.)"""
    task, target = TASKS.make("depth", "test", **keywords), _labels(2, 3, 4)
    scores = torch.randn(2, _channels(keywords), 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: task.loss(values, target), scores)


@every_option
def test_what_is_no_reading_has_no_effect(keywords: dict[str, Any]) -> None:
    """0, nan and infinity are none, and what is predicted there is of no account, bitwise."""
    task, target = TASKS.make("depth", "test", **keywords), _labels(2, 6, 7).float()
    target[1, 0, :3] = torch.tensor([0.0, torch.inf, torch.nan])
    unknown = ~((target > 0) & target.isfinite())
    scores = torch.randn(2, _channels(keywords), 6, 7)
    results = []
    for values in (scores, torch.where(unknown[:, None], 1e3 * torch.randn(scores.shape), scores)):
        values.requires_grad_()
        loss = task.loss(values, target)
        loss.sum().backward()
        results.append((loss, values.grad))
    assert torch.equal(results[0][0], results[1][0]) and results[0][0].isfinite().all()
    assert torch.equal(results[0][1], results[1][1])


@every_option
def test_an_image_without_a_reading_has_a_loss_and_a_gradient_of_zero(keywords: dict[str, Any]) -> None:
    """Next to one that has some."""
    task, target = TASKS.make("depth", "test", **keywords), _labels(2, 6, 7).float()
    target[0] = 0
    scores = (4 * torch.randn(2, _channels(keywords), 6, 7)).requires_grad_()
    loss = task.loss(scores, target)
    loss.sum().backward()
    assert loss[0] == 0 and loss[1] > 0
    assert not scores.grad[0].any() and scores.grad[1].any()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"invariance": 1.5}, "invariance lies between 0 and 1; given is 1.5"),
        ({"gradient": -1.0}, "gradient is a weight of at least 0"),
        ({"gradient": 0.5, "loss": "ordinal"}, "and 0 for loss: ordinal"),
        ({"loss": "ordinal", "bins": 1}, "at least two bins"),
        ({"loss": "ordinal", "between": (0.0, 10.0)}, "a nearest depth above 0"),
        ({"valid": (10.0, 1.0)}, "valid depths go from a nearest"),
    ],
)
def test_options_out_of_range_are_refused(keywords: dict[str, Any], message: str) -> None:
    """When the task is made, not when it is trained or scored."""
    with pytest.raises(ConfigError, match=message):
        Depth(**keywords)


def test_the_metric_follows_the_protocol() -> None:
    """Range, crop and alignment reach it."""
    metric = Depth(valid=(0.1, 80.0), crop="garg", align="median").metric()
    assert (metric.valid, metric.crop, metric.align) == ((0.1, 80.0), "garg", "median")


@pytest.mark.parametrize("start", [0.7, 3.0, 7.0])
def test_a_new_ordinal_head_answers_its_start(start: float) -> None:
    """To the width of an interval."""
    head = Depth(loss="ordinal", bins=40, between=(0.5, 8.0), start=start, width=16).make_head([Level(8, 4)]).eval()
    answer = head([torch.randn(1, 8, 4, 4)])
    assert (answer / start).log().abs().max().item() < 2 * math.log(16) / 40
