"""Crops against the pixels that the published codes take."""

import pytest
import torch

from ubertrain.metrics.depth_crops import Crop, cropped


@pytest.mark.parametrize(
    ("crop", "size", "sides"),
    [
        ("garg", (375, 1242), (153, 371, 44, 1197)),
        ("garg", (376, 1241), (153, 372, 44, 1196)),
        ("garg", (370, 1226), (151, 366, 44, 1181)),
        ("eigen", (375, 1242), (124, 342, 44, 1197)),
        ("eigen", (376, 1241), (124, 343, 44, 1196)),
        ("nyu", (480, 640), (45, 471, 41, 601)),
        ("none", (5, 7), (0, 5, 0, 7)),
    ],
)
def test_images_of_the_data_sets_own_sizes_give_the_published_pixels(
    crop: Crop, size: tuple[int, int], sides: tuple[int, int, int, int]
) -> None:
    """`array[top:bottom, left:right]`, as the codes for KITTI and NYUv2 write it."""
    top, bottom, left, right = sides
    expected = torch.zeros(size, dtype=torch.bool)
    expected[top:bottom, left:right] = True
    assert torch.equal(cropped(crop, size), expected)
