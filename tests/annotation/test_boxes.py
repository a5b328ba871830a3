from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.palette import class_colour
from ubertrain.annotation.warp import Warp
from ubertrain.errors import DataError

SIZE = (40, 60)


def boxes(*rows: tuple[float, float, float, float], ignore: bool = False) -> dict[str, Tensor]:
    """A valid label with the given boxes and classes 0, 1, 2, ..."""
    return {
        "boxes": torch.tensor(rows, dtype=torch.float32).reshape(-1, 4),
        "classes": torch.arange(len(rows)),
        "ignore": torch.full((len(rows),), ignore),
    }


def test_valid_boxes_pass() -> None:
    """Boxes up to the border of the image, and no boxes at all, are valid."""
    Boxes.check(boxes((0, 0, 60, 40), (10, 10, 10.5, 11)), SIZE)
    Boxes.check(boxes(), SIZE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(1, 4), "must be a dict"),
        ({"boxes": torch.zeros(0, 4)}, "lack the entry"),
        (boxes((0, 0, 62, 40)), "box 0 of 1 .0 0 62 40. is outside the image, which is 60 wide and 40 high"),
        (boxes((1, 1, 2, 2), (-3, 0, 5, 5)), "box 1 of 2 .* is outside"),
        (boxes((5, 5, 5, 9)), "x1 > x0"),
        (boxes((5, 9, 8, 5)), "x1 > x0"),
        (boxes((5, float("nan"), 8, 9)), "is not finite"),
        (dict(boxes((1, 1, 2, 2)), classes=torch.tensor([-1])), "negative class id"),
        (dict(boxes((1, 1, 2, 2)), classes=torch.tensor([0.0])), "torch.int64; got torch.float32"),
        (dict(boxes((1, 1, 2, 2)), classes=torch.tensor([0, 1])), r"shape \(1\)"),
        (dict(boxes((1, 1, 2, 2)), ignore=torch.tensor([0])), "torch.bool"),
        (dict(boxes(), boxes=torch.zeros(0, 5)), r"shape \(any, 4\)"),
    ],
)
def test_broken_boxes_are_refused(value: Any, message: str) -> None:
    """The error quotes the box and says what is wrong with it."""
    with pytest.raises(DataError, match=message):
        Boxes.check(value, SIZE)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, (10, 5, 30, 20)),
        ({"flip": True}, (30, 5, 50, 20)),
        ({"degrees": 180}, (30, 20, 50, 35)),
        ({"zoom": 0.5}, (20, 12.5, 30, 20)),
        ({"centre": (25.0, 20.0)}, (15, 5, 35, 20)),
    ],
)
def test_boxes_follow_exactly(keywords: dict[str, Any], expected: tuple[float, ...]) -> None:
    """Flip, half turn, zoom and shift move a box to where its content goes, to the pixel."""
    warped = Boxes.warp(boxes((10, 5, 30, 20)), Warp.about(SIZE, SIZE, **keywords))
    assert torch.allclose(warped["boxes"], torch.tensor([expected], dtype=torch.float32), atol=1e-4)
    assert not warped["ignore"].any()


def test_quarter_turn_exchanges_the_sides() -> None:
    """After 90 degrees counter-clockwise, what was at the right is at the top."""
    warped = Boxes.warp(boxes((50, 5, 60, 25)), Warp.about(SIZE, (60, 40), degrees=90))
    assert torch.allclose(warped["boxes"], torch.tensor([[5.0, 0.0, 25.0, 10.0]]), atol=1e-4)


@pytest.mark.parametrize("degrees", [10, 45, -30])
def test_rotated_boxes_enclose_all_four_corners(degrees: float) -> None:
    """Under any rotation the new box is the smallest upright box around the turned corners."""
    warp = Warp.about(SIZE, (200, 200), degrees=degrees)
    corners = warp.points(torch.tensor([[10.0, 5.0], [30.0, 5.0], [10.0, 20.0], [30.0, 20.0]]))
    expected = torch.cat([corners.amin(0), corners.amax(0)])
    assert torch.allclose(Boxes.warp(boxes((10, 5, 30, 20)), warp)["boxes"][0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("left", "kept", "ignored"),
    [(0.0, True, False), (7.0, True, False), (8.0, True, True), (9.5, True, True), (10.0, False, False), (30.0, False, False)],
)
def test_boxes_that_leave_the_view(left: float, kept: bool, ignored: bool) -> None:
    """A box 10 wide, of which the crop hides `left`: in view it stays, mostly hidden it is ignored, out of view it goes."""
    crop = Warp.about((40, 60), (40, 20), centre=(left + 20.0, 20.0))
    warped = Boxes.warp(boxes((10, 10, 20, 20)), crop)
    assert len(warped["boxes"]) == kept
    assert warped["ignore"].tolist() == [ignored] * kept


def test_clipped_boxes_are_valid() -> None:
    """What remains of boxes after a random crop passes the check for the output's size."""
    start = torch.rand(200, 2) * torch.tensor([50.0, 30.0])
    value = boxes(*torch.cat([start, start + 1 + 8 * torch.rand(200, 2)], dim=1).tolist())
    warped = Boxes.warp(value, Warp.about(SIZE, (30, 30), zoom=1.4, degrees=30, centre=(20.0, 20.0)))
    assert 0 < len(warped["boxes"]) < 200
    Boxes.check(warped, (30, 30))


def test_boxes_too_thin_to_see_are_ignored() -> None:
    """A box that shrinks below a pixel neither counts as found nor as missed."""
    warped = Boxes.warp(boxes((10, 10, 12, 30), (10, 10, 30, 30)), Warp.about(SIZE, (10, 15), zoom=0.25))
    assert warped["ignore"].tolist() == [True, False]


def test_ignored_boxes_stay_ignored() -> None:
    """A warp never makes a doubtful object certain."""
    assert Boxes.warp(boxes((10, 10, 30, 30), ignore=True), Warp.about(SIZE, SIZE))["ignore"].tolist() == [True]


def test_rows_stay_together() -> None:
    """Dropping a box drops its class and its other entries, and leaves the other rows in order."""
    value = dict(boxes((0, 0, 5, 5), (30, 10, 50, 30), (50, 30, 60, 40)), track=torch.tensor([7, 8, 9]))
    warped = Boxes.warp(value, Warp.about(SIZE, (20, 40), centre=(40.0, 25.0)))
    assert warped["classes"].tolist() == [1, 2]
    assert warped["track"].tolist() == [8, 9]


@pytest.mark.parametrize("value", [boxes(), boxes((0, 0, 5, 5))], ids=["empty", "all out of view"])
def test_a_labelled_negative_stays_labelled(value: dict[str, Tensor]) -> None:
    """No boxes left is an empty, valid label of the same form; it is never turned into a missing one."""
    warped = Boxes.warp(value, Warp.about(SIZE, (10, 10), degrees=20, centre=(50.0, 30.0)))
    assert {name: tuple(rows.shape) for name, rows in warped.items()} == {"boxes": (0, 4), "classes": (0,), "ignore": (0,)}
    Boxes.check(warped, (10, 10))


def test_warping_leaves_the_source_alone() -> None:
    """The value that is warped is not changed."""
    value = boxes((10, 10, 30, 30))
    Boxes.warp(value, Warp.about(SIZE, (10, 10), zoom=0.1))
    assert value["boxes"].tolist() == [[10, 10, 30, 30]]
    assert value["ignore"].tolist() == [False]


def test_collating_pads_with_class_minus_one() -> None:
    """Images with fewer boxes get rows of class -1, which are not ignored boxes but none."""
    table = Boxes.collate([boxes((1, 1, 2, 2), (3, 3, 4, 4)), boxes(), boxes((5, 5, 6, 6), ignore=True)])
    assert table["classes"].tolist() == [[0, 1], [-1, -1], [0, -1]]
    assert table["ignore"].tolist() == [[False, False], [False, False], [True, False]]
    assert table["boxes"][2].tolist() == [[5, 5, 6, 6], [0, 0, 0, 0]]


def test_collating_empties_leaves_one_unused_row() -> None:
    """Even a batch of labelled negatives has a table, of one unused row."""
    table = Boxes.collate([boxes(), boxes()])
    assert table["boxes"].shape == (2, 1, 4)
    assert (table["classes"] == -1).all()


def test_drawing_frames_the_pixels_of_the_box() -> None:
    """The frame lies on the outermost pixels inside the box, and nowhere outside it."""
    image = np.zeros((40, 60, 3), np.uint8)
    picture = Boxes.draw(image, boxes((10, 5, 50, 35)))
    assert tuple(picture[34, 49]) == class_colour(1)
    assert not picture[:, :10].any()
    assert not picture[:, 50:].any()
    assert not picture[:5].any()
    assert not picture[35:].any()


def test_frames_can_be_seen_on_large_pictures() -> None:
    """A frame takes about the same share of a photo of any size."""
    shares = []
    for factor in (8, 80):
        box = boxes((20 * factor, 20 * factor, 60 * factor, 40 * factor))
        picture = Boxes.draw(np.zeros((60 * factor, 80 * factor, 3), np.uint8), box)
        shares.append(picture[30 * factor].any(axis=-1).mean())
    assert shares[0] == pytest.approx(shares[1], rel=0.1)


@pytest.mark.parametrize("value", [boxes(), Boxes.collate([boxes()])], ids=["no rows", "unused rows"])
def test_drawing_nothing_shows_the_image(value: dict[str, Tensor]) -> None:
    """Without boxes, or with unused rows only, the picture is the image."""
    image = np.full((40, 60, 3), 77, np.uint8)
    value = {name: rows.reshape(-1, 4) if name == "boxes" else rows.flatten() for name, rows in value.items()}
    assert np.array_equal(Boxes.draw(image, value), image)


def test_names_and_scores_are_written() -> None:
    """A prediction is drawn with class names and scores, and looks different from one without names."""
    image = np.zeros((40, 60, 3), np.uint8)
    prediction = {"boxes": torch.tensor([[2.0, 2.0, 58.0, 38.0]]), "classes": torch.tensor([0]), "scores": torch.tensor([0.9])}
    assert (Boxes.draw(image, prediction) != Boxes.draw(image, prediction, names=["cat"])).any()


def written(corners: list[tuple[float, float, float, float]]) -> np.ndarray:
    """Which pixels of 100 x 200 hold writing: what the picture loses when the boxes have no name."""
    image = np.zeros((100, 200, 3), np.uint8)
    found = {"boxes": torch.tensor(corners), "classes": torch.zeros(len(corners), dtype=torch.int64)}
    changed: np.ndarray = (Boxes.draw(image, found, names=["person"]) != Boxes.draw(image, found, names=[""])).any(axis=-1)
    return changed


def test_names_are_not_cut_at_the_right_border() -> None:
    """As much is written for a box there as in the middle."""
    assert written([(190.0, 30.0, 200.0, 90.0)]).sum() == pytest.approx(written([(90.0, 30.0, 100.0, 90.0)]).sum(), rel=0.1)


def test_names_do_not_lie_on_each_other() -> None:
    """Of two boxes at one place the second is named below, and a third is not."""
    one, two, three = (written([(50.0, 30.0, 90.0, 70.0)] * count) for count in (1, 2, 3))
    assert not one[71:].any() and np.array_equal(one[:30], two[:30])
    assert two[71:].any() and np.array_equal(two, three)
