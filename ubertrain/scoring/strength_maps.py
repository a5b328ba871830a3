"""Maps of boundary strength in files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ubertrain.data.blame import blame
from ubertrain.data.images import read_grey
from ubertrain.data.mat import read_variables
from ubertrain.errors import DataError

STRENGTHS = (".png", ".bmp", ".jpg", ".npy", ".mat")
"""Files that `read_strength` reads."""


def read_strength(path: Path) -> Tensor:
    """A map of boundary strength from 0 to 1, (height, width) float64.

    Grey pictures go from black = 0 to white = 1, .npy holds numbers from 0 to 1, and .mat either the only map among its
    variables, or `ucm2`, a contour map of twice the size, as the gPb-ucm code writes it.

    Raises:
        DataError: the file is missing or damaged or holds something else; names it.
    """
    if path.suffix == ".npy":
        return load_array(path, 2)
    if path.suffix == ".mat":
        return _mat(path)
    # Exactly the grey value over its maximum: on a threshold, as float32 a value may fall to its other side.
    return (read_grey(path).double() * 65535).round() / 65535


def load_array(path: Path, *sides: int) -> Tensor:
    """The numbers in a .npy file, float64, with as many dimensions as one of `sides` says.

    Raises:
        DataError: the file is missing or damaged, or of another shape; names it.
    """
    with blame(path):
        try:
            values = np.load(path, allow_pickle=False).astype(np.float64)
        except Exception as error:  # numpy raises anything on damaged bytes: EOFError, ValueError, SyntaxError, ...
            raise DataError(f"cannot be read as a .npy file of numbers ({error or type(error).__name__})") from error
        if values.ndim not in sides:
            wanted = " or ".join(f"{count} dimensions" for count in sides)
            raise DataError(f"has shape {values.shape}; expected {wanted}")
        return torch.from_numpy(values)


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
        scale = 255.0 if values.dtype == np.uint8 else 1.0
        return torch.from_numpy(values.astype(np.float64) / scale)
