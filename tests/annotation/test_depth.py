from typing import Any

import numpy as np
import pytest
import torch

from ubertrain.annotation.depth import Depth
from ubertrain.annotation.warp import Warp
from ubertrain.errors import DataError


def test_valid_depth_passes() -> None:
    """Positive metres and missing readings are valid."""
    Depth.check(torch.tensor([[0.0, 3.5]]), (1, 2))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor([[1.0, float("nan")]]), "not finite at 1 pixels; mark missing readings as 0"),
        (torch.tensor([[float("inf"), float("inf")]]), "not finite at 2 pixels"),
        (torch.tensor([[1.0, -2.0]]), "negative, down to -2"),
        (torch.ones(2, 1), r"shape \(1, 2\), like its image; got \(2, 1\)"),
        (torch.ones(1, 2, dtype=torch.float64), "torch.float32; got torch.float64"),
    ],
)
def test_broken_depth_is_refused(value: Any, message: str) -> None:
    """The error says what is wrong and how missing readings are written."""
    with pytest.raises(DataError, match=message):
        Depth.check(value, (1, 2))


@pytest.mark.parametrize("zoom", [0.5, 2.0, 1.25])
def test_enlarged_things_are_nearer(zoom: float) -> None:
    """Depth is divided by the zoom."""
    warped = Depth.warp(torch.full((8, 8), 6.0), Warp.about((8, 8), (4, 4), zoom=zoom))
    assert torch.allclose(warped, torch.full((4, 4), 6.0 / zoom))


@pytest.mark.parametrize("size", [(4, 4), (20, 30)])
def test_a_whole_image_keeps_its_metres(size: tuple[int, int]) -> None:
    """Fitting an image into an input of any size changes no depth, so that errors in metres are errors in metres."""
    warped = Depth.warp(torch.full((8, 10), 6.0), Warp.fit((8, 10), size))
    assert warped[warped > 0].unique().tolist() == [6.0]


@pytest.mark.parametrize("degrees", [0, 31])
def test_no_reading_stays_no_reading(degrees: float) -> None:
    """Readings and missing readings are never averaged into something between them."""
    value = torch.where(torch.rand(30, 30) < 0.5, 0.0, 4.0)
    warped = Depth.warp(value, Warp.about((30, 30), (40, 40), zoom=1.6, degrees=degrees))
    assert set(warped.unique().tolist()) == {0.0, 2.5}


def test_outside_has_no_reading() -> None:
    """What comes from outside the image is 0."""
    assert Depth.warp(torch.ones(2, 2), Warp.about((2, 2), (2, 4))).tolist() == [[0, 1, 1, 0]] * 2


def test_collating_stacks() -> None:
    """The depths of a batch are one tensor, in order."""
    assert Depth.collate([torch.ones(1, 2), torch.zeros(1, 2)]).tolist() == [[[1, 1]], [[0, 0]]]


def test_drawing_goes_from_red_to_blue() -> None:
    """Near is more red than blue, far is more blue than red, no reading is black."""
    near, far, none = Depth.draw(np.zeros((1, 3, 3), np.uint8), torch.tensor([[1.0, 4.0, 0.0]]))[0].astype(int)
    assert near[0] > near[2]
    assert far[2] > far[0]
    assert not none.any()


def test_drawing_between_given_depths_makes_pictures_comparable() -> None:
    """With the same ends of the ramp, the same depth has the same colour in both pictures."""
    image = np.zeros((1, 2, 3), np.uint8)
    first = Depth.draw(image, torch.tensor([[1.0, 2.0]]), between=(1, 10))
    second = Depth.draw(image, torch.tensor([[2.0, 9.0]]), between=(1, 10))
    assert np.array_equal(first[0, 1], second[0, 0])


@pytest.mark.parametrize("value", [torch.zeros(4, 5), torch.full((4, 5), 2.0)], ids=["no reading", "one depth"])
def test_drawing_never_fails(value: torch.Tensor) -> None:
    """A label without readings, or without contrast, has a picture too."""
    assert Depth.draw(np.zeros((4, 5, 3), np.uint8), value).shape == (4, 5, 3)
