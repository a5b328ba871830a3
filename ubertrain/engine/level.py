"""What a head is told about one of the levels it reads."""

from typing import NamedTuple


class Level(NamedTuple):
    """A trunk output as a head sees it: `channels`, and `stride`, the input pixels per feature pixel along a side."""

    channels: int
    stride: int
