from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.annotation.normals import Normals
from ubertrain.annotation.warp import Warp
from ubertrain.errors import DataError


def constant(x: float, y: float, z: float, size: tuple[int, int] = (4, 4)) -> Tensor:
    """The same normal everywhere."""
    return torch.tensor([x, y, z], dtype=torch.float32)[:, None, None].expand(3, *size).contiguous()


def test_valid_normals_pass() -> None:
    """Unit vectors, unknown ones, and what 8 bits make of unit vectors are valid."""
    random = F.normalize(torch.randn(3, 20, 20), dim=0)
    Normals.check(random, (20, 20))
    Normals.check(torch.zeros(3, 4, 4), (4, 4))
    Normals.check((127.5 * (random + 1)).round() / 127.5 - 1, (20, 20))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (constant(0, 0, -2), "length 1, or 0 where unknown; 16 have not"),
        (constant(0, 0, -0.5), "length 1"),
        (constant(0, float("nan"), -1), "not finite at 16 pixels; mark unknown normals as 0 0 0"),
        (torch.zeros(4, 4, 3), r"shape \(3, 4, 4\), like its image; got \(4, 4, 3\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "torch.float32; got torch.uint8"),
    ],
)
def test_broken_normals_are_refused(value: Any, message: str) -> None:
    """The error says what is wrong and how unknown normals are written."""
    with pytest.raises(DataError, match=message):
        Normals.check(value, (4, 4))


@pytest.mark.parametrize(
    ("keywords", "before", "after"),
    [
        ({"flip": True}, (0.6, 0.0, -0.8), (-0.6, 0.0, -0.8)),
        ({"degrees": 180}, (0.6, 0.0, -0.8), (-0.6, 0.0, -0.8)),
        ({"degrees": 180, "flip": True}, (0.0, 0.6, -0.8), (0.0, -0.6, -0.8)),
        ({"degrees": 90}, (0.6, 0.0, -0.8), (0.0, -0.6, -0.8)),
        ({"degrees": 90}, (0.0, 0.6, -0.8), (0.6, 0.0, -0.8)),
        ({"zoom": 3.0}, (0.6, 0.0, -0.8), (0.6, 0.0, -0.8)),
        ({"degrees": 30, "zoom": 1.7}, (1.0, 0.0, 0.0), (0.8660254, -0.5, 0.0)),
    ],
)
def test_normals_turn_with_the_image(keywords: dict[str, Any], before: tuple[float, ...], after: tuple[float, ...]) -> None:
    """Known cases: a surface that faces right faces up after a quarter turn counter-clockwise (y points down)."""
    warped = Normals.warp(constant(*before), Warp.about((4, 4), (2, 2), **keywords))
    assert torch.allclose(warped, constant(*after, size=(2, 2)), atol=1e-6)


def test_known_and_unknown_are_never_mixed() -> None:
    """Every warped normal is a unit vector or zero, to rounding."""
    value = F.normalize(torch.randn(3, 30, 30), dim=0) * (torch.rand(30, 30) < 0.5)
    length = Normals.warp(value, Warp.about((30, 30), (60, 60), zoom=1.4, degrees=31)).norm(dim=0)
    assert ((length - 1).abs() < 1e-5).logical_or(length == 0).all()
    assert (length == 0).any()


def test_outside_is_unknown() -> None:
    """What comes from outside the image is the zero vector."""
    warped = Normals.warp(constant(0, 0, -1, (2, 2)), Warp.about((2, 2), (2, 4)))
    assert warped.norm(dim=0).tolist() == [[0, 1, 1, 0]] * 2


def test_collating_stacks() -> None:
    """The normals of a batch are one tensor, in order."""
    batch = Normals.collate([constant(1, 0, 0), constant(0, 1, 0)])
    assert batch.shape == (2, 3, 4, 4)
    assert batch[1, 1].all()


@pytest.mark.parametrize(
    ("normal", "colour"),
    [((0, 0, -1), (127, 127, 255)), ((1, 0, 0), (255, 127, 127)), ((0, -1, 0), (127, 255, 127)), ((0, 0, 0), (0, 0, 0))],
    ids=["frontal", "right", "up", "unknown"],
)
def test_drawing_uses_the_usual_colours(normal: tuple[float, ...], colour: tuple[int, ...]) -> None:
    """Frontal surfaces are light blue, right red, up green, unknown black."""
    picture = Normals.draw(np.zeros((4, 4, 3), np.uint8), constant(*normal))
    assert tuple(picture[2, 2].tolist()) == colour
