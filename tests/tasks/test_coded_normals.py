"""Normals by triangular coding: its losses by brute force, its head, its file of codewords."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError, DataError, StateError
from ubertrain.metrics import AngularError
from ubertrain.ops.codewords import even_codewords
from ubertrain.registry import TASKS
from ubertrain.tasks.normals import Normals
from ubertrain.testing import check_task

pytest.importorskip("scipy")


def _visible(*size: int) -> Tensor:
    """Unit normals (rows, 3, height, width) that face the viewer, about a fifth of them unknown."""
    rows, height, width = size
    x, y, z = torch.randn(3, rows, height, width, dtype=torch.float64)
    normals = F.normalize(torch.stack([x, y, -z.abs()], dim=1), dim=1)
    return torch.where(torch.rand(rows, 1, height, width) < 0.2, 0.0, normals)


def _coded(**keywords: Any) -> Normals:
    return Normals(coding="triangular", **keywords)


@pytest.mark.parametrize("keywords", [{}, {"codewords": 20}, {"loss": "hard"}, {"width": 0}])
def test_it_keeps_the_contract(keywords: dict[str, Any]) -> None:
    """With few and many codewords, both targets and both heads."""
    check_task(TASKS.make("normals", "test", coding="triangular", **{"width": 16, **keywords}))


@pytest.mark.parametrize("loss", ["soft", "hard"])
def test_losses_equal_their_definitions(loss: str) -> None:
    """Pixel by pixel in float64, with the weights of the truth found by trying all triangles."""
    task, target = _coded(codewords=20, loss=loss), _visible(2, 5, 6)
    logits = torch.randn(2, 20, 5, 6, dtype=torch.float64)
    expected = []
    for scores, normals in zip(logits.flatten(2), target.flatten(2), strict=True):
        surprises = []
        for score, normal in zip(scores.T.numpy(), normals.T.numpy(), strict=True):
            if not normal.any():
                continue
            weights = _weights(task, normal)
            log_p = score - np.log(np.exp(score).sum())
            divergence = sum(w * (math.log(w) - log_p[word]) for word, w in weights.items() if w > 0)
            surprises.append(divergence if loss == "soft" else -log_p[max(weights, key=lambda word: weights[word])])
        expected.append(np.mean(surprises))
    assert task.loss(logits, target).tolist() == pytest.approx(expected)


def _weights(task: Normals, normal: np.ndarray) -> dict[int, float]:
    """Codeword -> weight, of the triangle whose cone holds `normal`."""
    assert task.code is not None
    for triangle in task.code.triangles:
        weights = np.linalg.solve(task.code.words[triangle].T, normal)
        if (weights > -1e-9).all():
            return dict(zip(triangle.tolist(), (weights / weights.sum()).tolist(), strict=True))
    raise AssertionError("no triangle holds this normal")


def test_the_soft_loss_of_the_code_itself_is_zero() -> None:
    """What no probabilities can do without is not counted."""
    task, target = _coded(codewords=20), _visible(1, 4, 4)
    words, weights = task.code.encode(target)
    shares = torch.full((1, 20, 4, 4), 1e-12, dtype=torch.float64).scatter(1, words, weights.clamp(min=1e-12))
    assert float(task.loss(shares.log(), target)) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("loss", ["soft", "hard"])
def test_gradients_equal_finite_differences(loss: str) -> None:
    """In float64."""
    task, target = _coded(codewords=20, loss=loss), _visible(1, 2, 3)
    logits = torch.randn(1, 20, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda scores: task.loss(scores, target), logits)


def test_an_image_without_normals_has_a_loss_and_a_gradient_of_zero() -> None:
    """Next to one that has some."""
    target = _visible(2, 4, 5).float()
    target[0] = 0
    logits = (50 * torch.randn(2, 40, 4, 5)).requires_grad_()
    loss = _coded().loss(logits, target)
    loss.sum().backward()
    assert loss[0] == 0 and loss[1] > 0
    assert not logits.grad[0].any() and logits.grad[1].any()


@pytest.mark.parametrize("width", [0, 16])
def test_a_new_head_says_that_everything_faces_the_viewer(width: int) -> None:
    """As the direct coding's does."""
    answer = _coded(width=width).make_head([Level(8, 4)]).eval()([torch.randn(2, 8, 4, 4)])
    assert answer.shape == (2, 3, 16, 16)
    torch.testing.assert_close(answer.norm(dim=1), torch.ones(2, 16, 16))
    assert answer[:, 2].max().item() < -0.95


@pytest.mark.parametrize("loss", ["soft", "hard"])
def test_a_head_that_learns_one_image_answers_it(loss: str) -> None:
    """To a few degrees with soft targets, and to about half the distance of codewords with hard ones."""
    task, level = _coded(width=32, loss=loss), torch.randn(1, 8, 8, 8)
    target = _visible(1, 8, 8).float().repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    head = task.make_head([Level(8, 4)])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        task.loss(head([level]), target).sum().backward()
        optimizer.step()
    metric = AngularError()
    with torch.no_grad():
        metric.update(head.eval()([level]), target)
    assert metric.compute()["median"] < (8 if loss == "soft" else 14)


def test_codewords_come_from_a_file(tmp_path: Path) -> None:
    """As many as it holds."""
    np.save(tmp_path / "words.npy", even_codewords(30).astype(np.float32))
    task = _coded(codebook=str(tmp_path / "words.npy"))
    assert task.make_head([Level(8, 4)])([torch.randn(1, 8, 2, 2)]).shape == (1, 30, 8, 8)


def test_weights_know_their_codewords() -> None:
    """Loaded under the same codewords they fit; under others they would mean other directions, and are refused."""
    head = _coded(codewords=20).make_head([Level(8, 4)])
    _coded(codewords=20).make_head([Level(8, 4)]).load_state_dict(head.state_dict())
    turned = {**head.state_dict(), "codewords": head.codewords.flip(0)}
    with pytest.raises(StateError, match="trained with other codewords"):
        head.load_state_dict(turned)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"loss": "soft"}, "'soft' does not go with coding: direct; it has l1 and cosine"),
        ({"loss": "l1", "coding": "triangular"}, "'l1' does not go with coding: triangular; it has soft and hard"),
        ({"codebook": "a.npy"}, "a codebook is for coding: triangular"),
        ({"coding": "triangular", "codewords": 3}, "at least four unit vectors"),
    ],
)
def test_options_that_do_not_go_together_are_refused(keywords: dict[str, Any], message: str) -> None:
    """Rather than passed over."""
    with pytest.raises(ConfigError, match=message):
        Normals(**keywords)


def test_a_missing_codebook_is_named(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(DataError, match="nowhere.npy"):
        _coded(codebook=str(tmp_path / "nowhere.npy"))
