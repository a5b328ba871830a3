"""Answers on photographs of other shapes than the network's input, which is 48 high and 64 wide here."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.data.stubs import Wants
from ubertrain.annotation.depth import Depth
from ubertrain.annotation.warp import Warp
from ubertrain.training import photograph
from ubertrain.training.photograph import draw_on

INPUT = (48, 64)


class Noting(Wants):
    """A task that notes what it is given to draw, and writes white in the corners of the picture."""

    def __init__(self) -> None:
        super().__init__(Depth)

    def draw(self, image: np.ndarray, prediction: Any) -> np.ndarray:
        self.image, self.given = image, prediction
        picture = image.copy()
        picture[[0, 0, -1, -1], [0, -1, 0, -1]] = 255
        return picture


def drawn(prediction: Any, height: int, width: int) -> tuple[Noting, np.ndarray]:
    """The task and its picture of a black photo of this size."""
    task, size = Noting(), (height, width)
    picture = draw_on(torch.zeros(3, *size, dtype=torch.uint8), task, prediction, Warp.fit(size, INPUT))
    assert picture.shape == (height, width, 3) and picture.dtype == np.uint8
    return task, picture


def columns_and_rows(height: int = 48, width: int = 64) -> Tensor:
    """(2, height, width): x and y of each pixel's centre in the network's input."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y])


SIZES = pytest.mark.parametrize(
    ("size", "zoom", "left", "top"),
    [((240, 160), 0.2, 16, 0), ((96, 512), 0.125, 0, 18), ((48, 64), 1, 0, 0), ((24, 12), 2, 20, 0)],
    ids=["upright", "flat", "of the input's size", "small"],
)


@SIZES
def test_maps_are_cut_to_what_the_photo_covers(size: tuple[int, int], zoom: float, left: int, top: int) -> None:
    """Each pixel of the photo gets the value of the place where the network saw it."""
    task, _ = drawn(columns_and_rows(), *size)
    x, y = columns_and_rows(*size) * zoom + torch.tensor([left, top]).view(2, 1, 1)
    assert task.image.shape[:2] == size
    # Beyond the centres of the input's outermost pixels there is nothing to interpolate with.
    torch.testing.assert_close(task.given, torch.stack([x.clamp(0.5, 63.5), y.clamp(0.5, 47.5)]), atol=1e-3, rtol=0)


@SIZES
def test_what_is_drawn_at_the_border_is_seen(size: tuple[int, int], zoom: float, left: int, top: int) -> None:
    """All four corners of the task's picture are those of the photo's."""
    _, picture = drawn(torch.zeros(*INPUT), *size)
    assert (picture[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()


@pytest.mark.parametrize("overhang", [(64, 64), (48, 96), (47, 63)])
def test_maps_may_be_larger_or_smaller_by_a_stride(overhang: tuple[int, int]) -> None:
    """What a stride leaves over is cut off, or continued, at the right and at the bottom."""
    whole, cut = drawn(columns_and_rows(*overhang), 48, 32)[0], drawn(columns_and_rows(), 48, 32)[0]
    torch.testing.assert_close(whole.given[:, :-1], cut.given[:, :-1])


def test_every_map_of_an_answer_follows_and_numbers_stay() -> None:
    """Answers may be nested; classes are never mixed, and keep their type."""
    classes = torch.randint(0, 2, INPUT) * 5
    task, _ = drawn({"map": torch.ones(INPUT, dtype=torch.float64), "more": [classes, torch.tensor(3.0)]}, 96, 64)
    assert task.given["map"].shape == (96, 64) and task.given["map"].dtype == torch.float64
    assert torch.equal(task.given["more"][0], classes[:, 16:48].repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert task.given["more"][1] == 3


@pytest.mark.parametrize(
    "prediction",
    [torch.zeros(10), torch.zeros(17, 2), {"map": torch.zeros(INPUT), "points": torch.zeros(17, 2)}, torch.zeros(12, 16), {}],
    ids=["a vector", "points", "points and a map", "a coarse grid", "nothing"],
)
def test_other_answers_are_drawn_on_the_input(prediction: Any) -> None:
    """Nobody knows how to cut them, so that the task sees what the network saw."""
    task, _ = drawn(prediction, 240, 160)
    assert task.image.shape[:2] == INPUT and task.given is prediction


def test_a_photo_may_be_too_large_to_draw_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn smaller in its own shape, the smaller the more numbers a pixel has, and enlarged."""
    monkeypatch.setattr(photograph, "_PIXELS", 6000)
    monkeypatch.setattr(photograph, "_VALUES", 12000)
    few, many = drawn(torch.zeros(*INPUT), 300, 200)[0], drawn(torch.zeros(8, *INPUT), 300, 200)[0]
    assert few.image.shape[:2] == (95, 63)
    assert many.image.shape[:2] == (47, 32)
