"""Maps of boundary strength in files."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ubertrain.data.blame import blame
from ubertrain.data.images import read_grey
from ubertrain.data.mat import read_variables
from ubertrain.errors import DataError
from ubertrain.scoring.maps import is_array, load_numbers

STRENGTHS = (".png", ".bmp", ".jpg", ".npy", ".mat")
"""Files that `read_strength` reads."""


def read_strength(path: Path) -> Tensor:
    """A map of boundary strength from 0 to 1, (height, width) float64.

    Grey pictures go from black = 0 to white = 1, .npy holds numbers from 0 to 1, and .mat either the only map among its
    variables, or `ucm2`, a contour map of twice the size, as the gPb-ucm code writes it.

    Raises:
        DataError: the file is missing or damaged or holds something else; names it.
    """
    if is_array(path):
        return load_array(path, 2)
    if path.suffix.lower() == ".mat":
        return _mat(path)
    # Exactly the grey value over its maximum: on a threshold, as float32 a value may fall to its other side.
    return (read_grey(path).double() * 65535).round() / 65535


def load_array(path: Path, *sides: int) -> Tensor:
    """The numbers in a .npy file, float64, with as many dimensions as one of `sides` says.

    Raises:
        DataError: the file is missing or damaged, or of another shape; names it.
    """
    values = load_numbers(path).astype(np.float64)
    with blame(path):
        if values.ndim not in sides:
            wanted = " or ".join(f"{count} dimensions" for count in sides)
            raise DataError(f"has shape {values.shape}; expected {wanted}")
        return torch.from_numpy(values)


def load_labels(path: Path, *sides: int) -> Tensor:
    """The labels in a .npy file, uint8; see `load_array`.

    Raises:
        DataError: as for `load_array`, or a number that is no label from 0 to 255: nothing is rounded or wrapped.
    """
    values = load_array(path, *sides)
    wrong = values[~((values >= 0) & (values <= 255) & (values == values.round()))]
    if wrong.numel():
        raise DataError(f"{path}: holds {wrong[0].item():g}, which is no label; expected whole numbers from 0 to 255")
    return values.to(torch.uint8)


def expect_light(files: Iterable[Path], *, dark: bool) -> None:
    """Raise `DataError` if masks were written as 0 and 1 of 255, which no threshold reaches.

    Args:
        files: maps of strength, of which the first that is not black is looked at.
        dark: whether no pixel of them reaches a threshold.
    """
    for file in files if dark else ():
        brightest = float(read_strength(file).max())
        if 0 < brightest <= 1 / 255:
            raise DataError(f"{file}: no pixel is brighter than 1 of 255, nor in any other map; write masks as 0 and 255")
        if brightest > 0:
            return


def _mat(path: Path) -> Tensor:
    variables = read_variables(path)
    with blame(path):
        if "ucm2" in variables:
            return torch.from_numpy(np.asarray(variables["ucm2"], dtype=np.float64)[2::2, 2::2].copy())
        maps = {
            name: value
            for name, value in variables.items()
            if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "fuib" and min(value.shape) > 1
        }
        if len(maps) != 1:
            raise DataError(
                f"holds {len(maps)} maps ({', '.join(sorted(variables)) or 'no variable'}); expected one, or ucm2. "
                "Segmentations are scored by their boundaries: write those"
            )
        ((_, values),) = maps.items()
        # scipy reads MATLAB's truth values as 0 and 1 of 8 bits
        scale = 255.0 if values.dtype == np.uint8 and values.max() > 1 else 1.0
        return torch.from_numpy(values.astype(np.float64) / scale)
