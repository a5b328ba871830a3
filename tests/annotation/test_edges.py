from typing import Any

import numpy as np
import pytest
import torch

from ubertrain.annotation.edges import Edges
from ubertrain.annotation.warp import Warp
from ubertrain.errors import DataError


def planes(*rows: list[list[int]]) -> torch.Tensor:
    """One plane per argument."""
    return torch.tensor(rows, dtype=torch.uint8)


def test_valid_edges_pass() -> None:
    """Any number of annotators, with 0, 1 and unknown, is valid."""
    Edges.check(planes([[0, 1, 255]]), (1, 3))
    Edges.check(torch.zeros(9, 4, 5, dtype=torch.uint8), (4, 5))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (planes([[0, 2]]), r"0, 1 or 255 \(unknown\); 1 pixels are not"),
        (torch.zeros(0, 1, 2, dtype=torch.uint8), "no annotator"),
        (torch.zeros(1, 2, dtype=torch.uint8), r"shape \(any, 1, 2\), like its image; got \(1, 2\)"),
        (torch.zeros(1, 1, 2), "torch.uint8; got torch.float32"),
    ],
)
def test_broken_edges_are_refused(value: Any, message: str) -> None:
    """The error says what is wrong with the planes."""
    with pytest.raises(DataError, match=message):
        Edges.check(value, (1, 2))


@pytest.mark.parametrize("zoom", [0.9, 0.7, 0.5, 0.3, 0.15])
@pytest.mark.parametrize("degrees", [0, 20, 45])
def test_a_thin_line_survives_shrinking_without_gaps(zoom: float, degrees: float) -> None:
    """A line one pixel wide across the image is still connected: every output column it crosses has a boundary pixel."""
    value = torch.zeros(1, 101, 101, dtype=torch.uint8)
    value[0, 50] = 1
    side = int(60 * zoom * np.cos(np.radians(degrees)))
    warped = Edges.warp(value, Warp.about((101, 101), (side, side), zoom=zoom, degrees=degrees))
    assert (warped == 1).any(dim=1).all()


def test_nearest_would_lose_the_line() -> None:
    """Control: plain nearest sampling loses such a line altogether at some positions."""
    value = torch.zeros(1, 100, 100, dtype=torch.uint8)
    value[0, 51] = 1
    warp = Warp.fit((100, 100), (25, 25))
    assert not (warp.sample(value, mode="nearest", fill=255) == 1).any()
    assert (Edges.warp(value, warp) == 1).any(dim=1).all()


def test_known_beats_unknown_and_yes_beats_no() -> None:
    """Under one output pixel, a boundary wins over none, and none over unknown."""
    value = planes([[0, 1, 255, 0, 255, 255], [255, 255, 0, 0, 255, 255]])
    warped = Edges.warp(value, Warp.fit((2, 6), (1, 3)))
    assert warped.tolist() == [[[1, 0, 255]]]


def test_outside_is_unknown() -> None:
    """What comes from outside the image is 255 in every plane."""
    warped = Edges.warp(torch.ones(2, 2, 2, dtype=torch.uint8), Warp.about((2, 2), (2, 4)))
    assert warped.tolist() == [[[255, 1, 1, 255]] * 2] * 2


def test_warped_edges_are_valid() -> None:
    """Whatever the warp, the result passes the check."""
    value = (torch.rand(3, 40, 50) < 0.1).to(torch.uint8)
    Edges.check(Edges.warp(value, Warp.about((40, 50), (33, 44), zoom=0.6, degrees=25, flip=True)), (33, 44))


def test_collating_fills_missing_annotators_with_unknown() -> None:
    """An image with fewer annotators gets planes of 255, not of 0."""
    batch = Edges.collate([planes([[0, 1]]), planes([[1, 0]], [[0, 0]])])
    assert batch.dtype == torch.uint8
    assert batch.tolist() == [[[[0, 1]], [[255, 255]]], [[[1, 0]], [[0, 0]]]]


def test_drawing_averages_those_who_know() -> None:
    """Agreement is black, half agreement grey, no boundary white; planes that do not know have no say."""
    value = planes([[1, 1, 0, 255]], [[1, 0, 0, 255]], [[255, 255, 255, 255]])
    picture = Edges.draw(np.zeros((1, 4, 3), np.uint8), value)
    assert picture[0, :, 0].tolist() == [0, 127, 255, 200]
