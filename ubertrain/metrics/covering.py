"""Whether a prediction can be of the image that it is scored against."""

from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.ops.pixels import to_size

_STRIDE = 32
"""Pixels: a head covers the image rounded to its trunk's stride, and strides end here."""


def covering(prediction: Tensor, target: Tensor, *, channels: tuple[int, ...] = ()) -> Tensor:
    """`prediction` cut or continued to the height and width of `target`, as `to_size` does it.

    Args:
        prediction: (rows, *channels, height, width).
        target: (rows, ..., height, width).
        channels: what must stand between the rows and the height of the prediction.

    Raises:
        DataError: another number of rows or of channels, or a size that no rounding to a stride explains: a map of another
            resolution must be brought to the image's before it is scored.
    """
    rows, size = len(target), target.shape[-2:]
    expected = (rows, *channels, *size)
    fits = prediction.ndim == len(expected) and prediction.shape[:-2] == expected[:-2]
    if not fits or not all(_rounded(given, wanted) for given, wanted in zip(prediction.shape[-2:], size, strict=True)):
        raise DataError(
            f"a prediction of shape {tuple(prediction.shape)} for labels that need {expected}; bring predictions to the size "
            "of their image before they are scored"
        )
    return to_size(prediction, size)


def _rounded(given: int, wanted: int) -> bool:
    """Whether a side is `wanted` rounded to cells of some stride: whole cells, or from the first cell's pixel to the last's."""
    strides = range(1 + abs(given - wanted), 1 + _STRIDE)
    return given == wanted or (given > 0 and any(given % stride in (0, 1) for stride in strides))
