from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.warp import Warp
from ubertrain.errors import DataError


class People(ClassMap):
    """The left and right parts of the CIHP data set."""

    mirrored = ((14, 15), (16, 17), (18, 19))


def test_valid_maps_pass() -> None:
    """Ids from 0 to 254 and the unknown id are valid."""
    ClassMap.check(torch.tensor([[0, 1], [254, 255]]), (2, 2))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[0]], "must be a tensor, not list"),
        (torch.zeros(2, 3, dtype=torch.int64), r"shape \(2, 2\), like its image; got \(2, 3\)"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), r"got \(1, 2, 2\)"),
        (torch.zeros(2, 2, dtype=torch.uint8), "torch.int64; got torch.uint8"),
        (torch.tensor([[0, -1], [0, 0]]), r"\[-1\]"),
        (torch.tensor([[0, 256], [0, 0]]), r"\[256\]"),
    ],
)
def test_broken_maps_are_refused(value: Any, message: str) -> None:
    """The error names the expected and the given shape, dtype or id."""
    with pytest.raises(DataError, match=message):
        ClassMap.check(value, (2, 2))


@pytest.mark.parametrize("degrees", [0, 13])
def test_ids_are_never_mixed(degrees: float) -> None:
    """A warped map holds ids of the source and the unknown id, no others."""
    value = torch.randint(0, 2, (30, 40)) * 100 + 7
    warped = ClassMap.warp(value, Warp.about((30, 40), (50, 50), zoom=0.8, degrees=degrees))
    assert set(warped.unique().tolist()) == {7, 107, 255}
    ClassMap.check(warped, (50, 50))


def test_outside_is_unknown() -> None:
    """What comes from outside the image is 255, and only that."""
    warped = ClassMap.warp(torch.zeros(4, 4, dtype=torch.int64), Warp.about((4, 4), (4, 6)))
    assert warped.tolist() == [[255, 0, 0, 0, 0, 255]] * 4


def test_unknown_stays_unknown() -> None:
    """A source pixel that is unknown is unknown in the warped map."""
    warped = ClassMap.warp(torch.full((4, 4), 255), Warp.about((4, 4), (8, 8), zoom=2))
    assert (warped == 255).all()


def test_flip_exchanges_left_and_right_parts() -> None:
    """A kind with mirrored pairs swaps them when the image is mirrored, and only then."""
    value = torch.tensor([[14, 1, 15]])
    assert People.warp(value, Warp.about((1, 3), (1, 3), flip=True)).tolist() == [[14, 1, 15]]
    assert People.warp(value, Warp.about((1, 3), (1, 3), degrees=180)).tolist() == [[15, 1, 14]]
    assert ClassMap.warp(value, Warp.about((1, 3), (1, 3), flip=True)).tolist() == [[15, 1, 14]]


def test_flip_equals_the_mirrored_labels_of_cihp(data_root: Path) -> None:
    """For every image of CIHP, our flip is the label map that its authors published for the mirrored image."""
    files = sorted((data_root / "CIHP" / "labels").glob("*.png"))
    assert files
    for file in files:
        value = torch.from_numpy(np.array(Image.open(file))).long()
        published = torch.from_numpy(np.array(Image.open(data_root / "CIHP" / "labels_rev" / file.name))).long()
        size = (value.shape[0], value.shape[1])
        assert torch.equal(People.warp(value, Warp.about(size, size, flip=True)), published)


def test_collating_stacks() -> None:
    """The maps of a batch are one tensor, in order."""
    assert ClassMap.collate([torch.tensor([[1]]), torch.tensor([[2]])]).tolist() == [[[1]], [[2]]]


def test_drawing_tells_classes_apart() -> None:
    """Pixels of different classes differ in the picture, and so do known and unknown ones."""
    picture = ClassMap.draw(np.full((1, 4, 3), 128, np.uint8), torch.tensor([[0, 1, 2, 255]]))
    assert len({tuple(pixel) for pixel in picture[0].tolist()}) == 4
