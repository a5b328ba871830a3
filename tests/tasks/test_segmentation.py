"""Segmentation: its loss by hand, its keywords, its picture."""

import math

import numpy as np
import pytest
import torch

from ubertrain.annotation.palette import class_colour
from ubertrain.errors import ConfigError
from ubertrain.ops.grid import OnGrid
from ubertrain.tasks.segmentation import Segmentation


def test_equal_scores_cost_the_logarithm_of_the_number_of_classes() -> None:
    """Whatever the labels are."""
    loss = Segmentation(classes=7).loss(torch.zeros(2, 7, 3, 3), torch.randint(0, 7, (2, 3, 3)))
    torch.testing.assert_close(loss, torch.full((2,), math.log(7)))


def test_the_loss_is_the_mean_surprise_of_each_image() -> None:
    """Against numpy, with ignored pixels; an image with few labels counts as much as one with many."""
    logits, target = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6))
    target[0, 1:] = 255
    loss = Segmentation(classes=4).loss(logits, target).numpy()
    p = np.exp(logits.double().numpy())
    p /= p.sum(axis=1, keepdims=True)
    for row in range(2):
        places = np.argwhere(target[row].numpy() != 255)
        surprise = [-np.log(p[row, target[row, y, x], y, x]) for y, x in places]
        assert loss[row] == pytest.approx(np.mean(surprise), rel=1e-5)


@pytest.mark.parametrize("classes", [1, 256, ["only"], []])
def test_a_number_of_classes_that_makes_no_sense_is_refused(classes: object) -> None:
    """255 is not a class, and one class is no choice."""
    with pytest.raises(ConfigError, match="2 to 255 classes"):
        Segmentation(classes=classes)


def test_names_of_classes_reach_the_metric() -> None:
    """Scores of single classes are reported by name."""
    assert list(Segmentation(classes=["sky", "road"]).metric().class_iou()) == ["sky", "road"]


def test_the_picture_shows_the_most_likely_class() -> None:
    """In the colours of the palette over a black image, cut to the image."""
    logits = torch.zeros(3, 4, 8)
    logits[1, :, :3], logits[2, :, 3:] = 5, 2
    picture = Segmentation(classes=3).draw(np.zeros((3, 6, 3), np.uint8), logits)
    assert picture.shape == (3, 6, 3)
    strength = picture[0, 0].max() / max(class_colour(1))
    assert picture[0, 0].tolist() == [int(strength * channel) for channel in class_colour(1)]
    assert picture[0, 3].tolist() == [int(strength * channel) for channel in class_colour(2)]


def test_a_large_picture_names_its_classes() -> None:
    """Those that are there, each with its colour, over what the plain picture shows."""
    logits = torch.zeros(3, 120, 160)
    logits[1] = 5
    task = Segmentation(classes=["sky", "road", "dog"])
    picture = task.draw(np.zeros((120, 160, 3), np.uint8), logits)
    assert (picture == class_colour(1)).all(axis=-1).any()
    assert not (picture == class_colour(2)).all(axis=-1).any()


@pytest.mark.parametrize("corners", [False, True])
def test_scores_on_a_grid_cost_what_their_pixels_cost(corners: bool) -> None:
    """The loss enlarges them itself."""
    task, grid = Segmentation(classes=3), OnGrid(torch.randn(2, 3, 5, 6), 4, corners)
    target = torch.randint(0, 3, (2, 18, 23))
    torch.testing.assert_close(task.loss(grid, target), task.loss(grid.pixels(), target))


def test_the_convention_about_absent_classes_reaches_the_metric() -> None:
    """It is a key of the task."""
    assert Segmentation(classes=2).metric().absent == "left_out"
    assert Segmentation(classes=2, absent="zero").metric().absent == "zero"
