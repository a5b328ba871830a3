"""Normals: their losses by hand, and that answers are unit vectors."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ubertrain.engine.level import Level
from ubertrain.tasks.normals import Normals, unit


def _vector(*components: float) -> Tensor:
    return torch.tensor(components).view(1, 3, 1, 1)


@pytest.mark.parametrize("degrees", [0, 30, 90, 180])
def test_cosine_is_one_minus_the_cosine(degrees: int) -> None:
    """Of the angle, whatever the length of the prediction."""
    angle = math.radians(degrees)
    answer = 4 * _vector(math.sin(angle), 0.0, -math.cos(angle))
    loss = Normals(loss="cosine").loss(answer, _vector(0.0, 0.0, -1.0))
    assert float(loss) == pytest.approx(1 - math.cos(angle), abs=1e-6)


def test_l1_is_the_mean_difference_of_unit_components() -> None:
    """(3, 0, -4) is made (0.6, 0, -0.8): 0.6 and 0.2 apart from (0, 0, -1), over three components."""
    assert float(Normals().loss(_vector(3.0, 0.0, -4.0), _vector(0.0, 0.0, -1.0))) == pytest.approx(0.8 / 3)


def test_answers_have_length_one() -> None:
    """Also those of tiny and of no scores."""
    scores = torch.cat([torch.randn(1, 3, 4, 5), 1e-5 * torch.randn(1, 3, 4, 5), torch.zeros(1, 3, 4, 5)])
    torch.testing.assert_close(unit(scores).norm(dim=1), torch.ones(3, 4, 5))


def test_no_direction_faces_the_viewer_and_has_a_finite_gradient() -> None:
    """Rather than nan."""
    scores = torch.zeros(1, 3, 2, 2, requires_grad=True)
    normals = unit(scores)
    normals.sum().backward()
    assert normals[0, :, 0, 0].tolist() == [0, 0, -1]
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("width", [0, 16])
def test_a_new_head_says_that_everything_faces_the_viewer(width: int) -> None:
    """On average; in eval mode, as unit vectors at the resolution of the image."""
    answer = Normals(width=width).make_head([Level(8, 4)]).eval()([torch.randn(2, 8, 4, 4)])
    assert answer.shape == (2, 3, 16, 16)
    assert answer[:, 2].mean().item() < -0.8


def test_the_picture_of_a_frontal_surface_is_light_blue() -> None:
    """As the labels are drawn."""
    picture = Normals().draw(np.zeros((2, 3, 3), np.uint8), _vector(0.0, 0.0, -1.0)[0].expand(3, 4, 4))
    assert picture.shape == (2, 3, 3) and picture[0, 0].tolist() == [127, 127, 255]
