"""What a head is told about one of the levels it reads."""

from typing import NamedTuple

IMAGE = "image"
"""The name of the tap that is the batch of images itself, Level(3, 1), RGB in [0, 1], for heads that look at it."""


class Level(NamedTuple):
    """A trunk output as a head sees it: `channels`, and `stride`, the input pixels per feature pixel along a side."""

    channels: int
    stride: int
