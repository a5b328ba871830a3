"""Boundaries by class: what they may hold, how they warp, their picture."""

from typing import Any

import numpy as np
import pytest
import torch

from ubertrain.annotation import SemanticEdges, Warp
from ubertrain.annotation.palette import class_colour
from ubertrain.errors import DataError


def test_valid_planes_pass() -> None:
    """A pixel may be on boundaries of several classes, inside of a third, and unknown for a fourth."""
    SemanticEdges.check(torch.tensor([[[1]], [[1]], [[2]], [[255]]], dtype=torch.uint8), (1, 1))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor([[[0, 3]]], dtype=torch.uint8), r"255 \(unknown\); 1 pixels are not, like \[3\]"),
        (torch.zeros(0, 1, 2, dtype=torch.uint8), "no class's plane"),
        (torch.zeros(1, 2, dtype=torch.uint8), r"shape \(any, 1, 2\), like its image; got \(1, 2\)"),
        (torch.zeros(1, 1, 2), "torch.uint8; got torch.float32"),
    ],
)
def test_broken_planes_are_refused(value: Any, message: str) -> None:
    """The error says what is wrong with them."""
    with pytest.raises(DataError, match=message):
        SemanticEdges.check(value, (1, 2))


def test_shrinking_keeps_what_says_most() -> None:
    """Under one output pixel a boundary wins over inside, inside over outside, and that over unknown."""
    value = torch.tensor([[[0, 1, 0, 2, 255, 0, 255, 255, 2, 1]] * 2], dtype=torch.uint8)
    assert SemanticEdges.warp(value, Warp.fit((2, 10), (1, 5))).tolist() == [[[1, 2, 0, 255, 1]]]


def test_outside_is_unknown() -> None:
    """What comes from outside the image is 255 in every plane, and the result passes the check."""
    warped = SemanticEdges.warp(torch.full((2, 2, 2), 2, dtype=torch.uint8), Warp.about((2, 2), (2, 4)))
    assert warped.tolist() == [[[255, 2, 2, 255]] * 2] * 2
    SemanticEdges.check(warped, (2, 4))


def test_the_picture_has_the_classes_colours() -> None:
    """On white; what no class knows is grey."""
    value = torch.tensor([[[1, 0, 0, 255]], [[0, 1, 2, 255]]], dtype=torch.uint8)
    picture = SemanticEdges.draw(np.zeros((1, 4, 3), np.uint8), value)
    assert picture[0].tolist() == [list(class_colour(1)), list(class_colour(2)), [255] * 3, [200] * 3]
