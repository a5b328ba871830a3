"""Class ids per pixel in the ways that data sets write them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.palette import VOID, class_colour
from ubertrain.data.blame import blame
from ubertrain.data.images import read_ids, read_rgb
from ubertrain.errors import DataError
from ubertrain.scoring.maps import is_array, read_array

Encoding = Literal["ids", "ids_from_1", "voc_colours", "cityscapes"]
"""
- "ids": grey or palette PNG, or .npy, of the ids themselves.
- "ids_from_1": the same, where 0 is unknown and the first class is 1 (ADE20K, NYUv2 with 40 classes).
- "voc_colours": RGB PNG in the colours of VOC's palette, whose 224 224 192 is unknown.
- "cityscapes": PNG of Cityscapes' label ids 0 to 33, of which 19 are classes and the others unknown.
"""

ENDINGS = (".png", ".npy")
NO_CLASS = -1
"""What stands for "unknown" once a file is read."""

CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain", "sky",
    "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
"""The classes of Cityscapes that are scored, in the order of their train ids (Cordts et al. 2016)."""

_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Their label ids."""


def read_map(path: Path, encoding: Encoding, ignore: tuple[int, ...]) -> Tensor:
    """The class of every pixel, (height, width) int64, -1 for unknown.

    Args:
        path: a PNG, or a .npy of whole numbers.
        encoding: see there.
        ignore: ids, as they are stored, that mean unknown; of no use for colours.

    Raises:
        DataError: the file is missing or damaged, or is not of this encoding.
    """
    if encoding == "voc_colours":
        return _from_colours(path)
    stored = _whole(path) if is_array(path) else read_ids(path)
    unknown = torch.isin(stored, torch.tensor(ignore, dtype=torch.int64))
    with blame(path):
        return torch.where(unknown, NO_CLASS, _TO_CLASSES[encoding](stored, unknown))


def _whole(path: Path) -> Tensor:
    values = read_array(path, None, None)
    if not (torch.equal(values, values.round()) and values.isfinite().all()):
        raise DataError(f"{path}: holds numbers that are no class ids; store the class with the highest score at every pixel")
    return values.long()


def _from_label_ids(stored: Tensor, unknown: Tensor) -> Tensor:
    wrong = stored[~unknown & ((stored < -1) | (stored > 33))]
    if wrong.numel():
        raise DataError(f"id {int(wrong[0])} is no label id of Cityscapes (-1 to 33); are these train ids, encoding ids?")
    table = torch.full((35,), NO_CLASS)
    table[torch.tensor(_LABEL_IDS)] = torch.arange(len(CITYSCAPES))
    return table[torch.where(unknown, -1, stored)]  # -1, a licence plate, is the last


_TO_CLASSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ids": lambda stored, unknown: stored,
    "ids_from_1": lambda stored, unknown: stored - 1,
    "cityscapes": _from_label_ids,
}


def _packed(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


_COLOURS = {_packed(class_colour(index)): index for index in range(255)} | {_packed(VOID): NO_CLASS}


def _from_colours(path: Path) -> Tensor:
    stored, most = read_rgb(path)
    with blame(path):
        if most != 255:
            raise DataError("has 16 bits a channel, which VOC's palette has not")
        red, green, blue = stored.long()
        colours, inverse = np.unique((red << 16 | green << 8 | blue).numpy(), return_inverse=True)
        if unknown := [colour for colour in colours.tolist() if colour not in _COLOURS]:
            red, green, blue = (unknown[0] >> shift & 255 for shift in (16, 8, 0))
            raise DataError(f"colour {red} {green} {blue} is not in VOC's palette; is this a photo, or another palette?")
        classes = np.array([_COLOURS[colour] for colour in colours.tolist()])
        return torch.from_numpy(classes[inverse].reshape(stored.shape[1:]))
