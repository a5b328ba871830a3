"""Colours for class ids: the PASCAL VOC colour map."""

from typing import Any

import numpy as np

VOID = (224, 224, 192)
"""The colour of what is unknown, id 255."""


def class_colour(index: int) -> tuple[int, int, int]:
    """RGB of class `index`: its bits, spread over the high bits of the three channels (VOCdevkit, VOClabelcolormap.m)."""
    colour = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            colour[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return colour[0], colour[1], colour[2]


_TABLE = np.array([*(class_colour(index) for index in range(255)), VOID], dtype=np.uint8)


def class_colours(classes: Any) -> np.ndarray:
    """(height, width) ids from 0 to 255 as (height, width, 3) uint8."""
    return _TABLE[np.asarray(classes)]
