"""What holds for every task that answers for each pixel."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.engine.level import Level
from ubertrain.ops.pixels import enlarge
from ubertrain.registry import TASKS
from ubertrain.task import Task
from ubertrain.testing import check_task

TASKS_AND_KEYWORDS: list[tuple[str, dict[str, Any]]] = [
    ("segmentation", {"classes": 3}),
    ("depth", {}),
    ("depth", {"loss": "l1"}),
    ("normals", {}),
    ("normals", {"loss": "cosine"}),
    ("boundaries", {}),
    ("saliency", {}),
    ("saliency", {"loss": "plain"}),
    ("parts", {"classes": 3}),
]
_CLASSES = {"segmentation": 3, "parts": 3, "saliency": 2}
"""Tasks whose labels are ids -> how many."""
every_task = pytest.mark.parametrize(
    ("name", "keywords"),
    TASKS_AND_KEYWORDS,
    ids=["-".join([name, *map(str, keys.values())]) for name, keys in TASKS_AND_KEYWORDS],
)


def _task(name: str, keywords: dict[str, Any]) -> Task:
    return TASKS.make(name, "test", **keywords)


def _labels(name: str, rows: int, height: int, width: int) -> Tensor:
    """Labels with about a third of the pixels unknown, the same ones for all values."""
    known = torch.rand(rows, height, width) > 0.3
    if name in _CLASSES:
        return torch.where(known, torch.randint(0, _CLASSES[name], (rows, height, width)), 255)
    if name == "depth":
        return torch.where(known, 0.5 + 4 * torch.rand(rows, height, width), 0.0)
    if name == "normals":
        return torch.where(known[:, None], F.normalize(torch.randn(rows, 3, height, width), dim=1), 0.0)
    drawn = (torch.rand(rows, 2, height, width) < 0.3).to(torch.uint8)
    return torch.where(known[:, None], drawn, 255)


def _unknown(name: str, target: Tensor) -> Tensor:
    """Which pixels have no label, (rows, height, width)."""
    if name == "depth":
        return target == 0
    if name == "normals":
        return (target == 0).all(dim=1)
    return target == 255 if name in _CLASSES else (target == 255).all(dim=1)


def _channels(name: str) -> int:
    return 3 if name in ("segmentation", "parts", "normals") else 1


@every_task
@pytest.mark.parametrize("width", [0, 16])
def test_it_keeps_the_contract(name: str, keywords: dict[str, Any], width: int) -> None:
    """With UberNet's head and with the wider one."""
    check_task(_task(name, {**keywords, "width": width}))


@every_task
def test_what_is_predicted_at_unknown_pixels_has_no_effect(name: str, keywords: dict[str, Any]) -> None:
    """Bitwise, on the loss and on its gradient."""
    task, target = _task(name, keywords), _labels(name, 2, 6, 7)
    prediction = torch.randn(2, _channels(name), 6, 7)
    changed = torch.where(_unknown(name, target)[:, None], 1e3 * torch.randn(prediction.shape), prediction)
    results = []
    for scores in (prediction, changed):
        scores.requires_grad_()
        loss = task.loss(scores, target)
        loss.sum().backward()
        results.append((loss, scores.grad))
    (loss, gradient), (changed_loss, changed_gradient) = results
    assert torch.equal(loss, changed_loss)
    assert torch.equal(gradient, changed_gradient)
    assert not gradient[_unknown(name, target)[:, None].expand_as(gradient)].any()


@every_task
def test_an_image_without_a_label_has_a_loss_of_exactly_zero(name: str, keywords: dict[str, Any]) -> None:
    """And a gradient of exactly zero, whatever is predicted, next to an image that has one."""
    task, target = _task(name, keywords), _labels(name, 2, 6, 7)
    target[0] = 0 if name in ("depth", "normals") else 255
    prediction = 100 * torch.randn(2, _channels(name), 6, 7)
    loss = task.loss(prediction.requires_grad_(), target)
    loss.sum().backward()
    assert loss[0] == 0 and loss[1] > 0
    assert not prediction.grad[0].any() and prediction.grad[1].any()


@every_task
def test_gradients_equal_finite_differences(name: str, keywords: dict[str, Any]) -> None:
    """In float64."""
    task, target = _task(name, keywords), _labels(name, 2, 3, 4)
    target = target.double() if target.is_floating_point() else target
    prediction = torch.randn(2, _channels(name), 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda scores: task.loss(scores, target), prediction)


@every_task
def test_a_loss_is_computed_in_32_bits_from_fewer(name: str, keywords: dict[str, Any]) -> None:
    """Under autocast a head's scores may come in bfloat16; they are rounded once and not again."""
    task, target = _task(name, keywords), _labels(name, 2, 6, 7)
    prediction = torch.randn(2, _channels(name), 6, 7).bfloat16()
    assert torch.equal(task.loss(prediction, target), task.loss(prediction.float(), target))


@every_task
def test_scores_beyond_the_image_have_no_effect(name: str, keywords: dict[str, Any]) -> None:
    """The head covers the image rounded up; the loss is that of the image."""
    task, target = _task(name, keywords), _labels(name, 2, 6, 7)
    prediction = torch.randn(2, _channels(name), 8, 8)
    assert torch.equal(task.loss(prediction, target), task.loss(prediction[..., :6, :7], target))


@every_task
def test_it_learns_one_image(name: str, keywords: dict[str, Any]) -> None:
    """Thirty steps halve the loss on labels that change every four pixels."""
    task, described = _task(name, {**keywords, "width": 16}), [Level(8, 4), Level(12, 8)]
    levels = [torch.randn(1, level.channels, 32 // level.stride, 32 // level.stride) for level in described]
    coarse = _labels(name, 1, 8, 8)
    target = coarse.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    head = task.make_head(described)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    history = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = task.loss(head(levels), target).sum()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0] / 2


@every_task
def test_the_answer_is_what_the_loss_pulls_towards(name: str, keywords: dict[str, Any]) -> None:
    """A head that learns one image answers it in eval mode: the primary score beats that of the constant answer."""
    task, described = _task(name, {**keywords, "width": 16}), [Level(8, 4)]
    coarse = _labels(name, 1, 8, 8)
    target = coarse.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    if name == "boundaries":
        target = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
        target[..., 14:16, 4:] = 1
    levels, head = [torch.randn(1, 8, 8, 8)], task.make_head(described)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        task.loss(head(levels), target).sum().backward()
        optimizer.step()
    learned, baseline = task.metric(), task.metric()
    with torch.no_grad():
        learned.update(head.eval()(levels), target)
    constant = baseline.constant()
    assert constant is not None
    constant.observe(target.flip(-1))  # as another image: an answer may depend on the place
    baseline.update(constant.prediction(target), target)
    score, floor = (metric.compute()[metric.primary] for metric in (learned, baseline))
    assert score > floor if learned.higher_is_better else score < floor


def test_enlarging_is_shared_by_training_and_evaluation() -> None:
    """Depth in eval mode is the exponential of the log depth that was trained, also between the levels' pixels."""
    task, level = _task("depth", {"width": 0}), torch.randn(1, 8, 4, 4)
    head = task.make_head([Level(8, 4)])
    trained = head([level])
    torch.testing.assert_close(head.eval()([level]), trained[:, 0].exp())
    torch.testing.assert_close(trained, enlarge(head.mix[0](head.score[0](level)), 4))
