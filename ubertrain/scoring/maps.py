"""Scoring of maps, one per image: the sums of each, added up."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.data.blame import blame
from ubertrain.errors import DataError
from ubertrain.metrics.sums import SumMetric
from ubertrain.scoring.each import Watch, each, unwatched
from ubertrain.scoring.pairs import Pair, Pairs

MetricT = TypeVar("MetricT", bound=SumMetric)

UNKNOWN = "no known pixel in its truth"
"""Why most images without a score have none."""


class Gathered(NamedTuple, Generic[MetricT]):
    """What all images come to.

    Attributes:
        metric: holds the sums of all.
        per_image: id -> the scores of this image alone.
        skipped: id -> why it was not scored.
    """

    metric: MetricT
    per_image: Mapping[str, Mapping[str, float]]
    skipped: Mapping[str, str]


def gather(
    judge: Callable[[Pair], Tensor | str],
    make: Callable[[], MetricT],
    found: Pairs,
    *,
    workers: int = 1,
    watch: Watch = unwatched,
) -> Gathered[MetricT]:
    """Add up what `judge` says about every pair.

    Args:
        judge: gives the sums of one image, or why it has no score; must be fit to travel, see `each`.
        make: gives a metric without sums.
        found: what to score.
        workers: see `each`.
        watch: see `each`.

    Raises:
        DataError: no image has a score; or whatever `judge` raises.
    """
    whole = make()
    per_image: dict[str, Mapping[str, float]] = {}
    skipped = dict(found.skipped)
    for pair, sums in zip(found.pairs, each(judge, found.pairs, workers=workers, watch=watch), strict=True):
        if isinstance(sums, str):
            skipped[pair.id] = sums
            continue
        alone = make()
        alone.add(sums)
        whole.merge(alone)
        per_image[pair.id] = alone.compute()
    if not per_image:
        first = found.pairs[0]
        raise DataError(f"none of {len(found.pairs)} images can be scored; {first.truth}: {skipped[first.id]}")
    return Gathered(whole, per_image, skipped)


def is_array(path: Path) -> bool:
    """Whether a file is one of numpy's, by its suffix."""
    return path.suffix.lower() == ".npy"


def load_numbers(path: Path) -> np.ndarray:
    """The array in a .npy file as it is stored: truth values, whole numbers or fractions.

    Raises:
        DataError: the file is missing or damaged, or holds something else, e.g. texts or complex numbers.
    """
    with blame(path):
        try:
            values = np.load(path, allow_pickle=False)
        except Exception as error:  # numpy raises anything on damaged bytes: EOFError, ValueError, SyntaxError, ...
            raise DataError(f"cannot be read as a .npy file of numbers ({error or type(error).__name__})") from error
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            raise DataError(f"holds {getattr(values, 'dtype', 'several arrays')}, where real numbers are expected")
        return values


def read_array(path: Path, *shape: int | None, refused: str = "", instead: str = "") -> Tensor:
    """The numbers in a .npy file, float64, of this shape; None stands for any length, and sides of length 1 may be left out.

    Args:
        path: the file.
        shape: the length of each side.
        refused: the kinds of number that cannot be meant, as numpy's letters: i = whole, u = whole without a sign.
        instead: what to write instead of these.

    Raises:
        DataError: the file is missing or damaged, or of another shape, or of a refused kind.
    """
    stored = load_numbers(path)
    with blame(path):
        if stored.dtype.kind in refused:
            raise DataError(f"holds {stored.dtype}; {instead}")
        values = torch.from_numpy(stored.astype(np.float64))
        given = tuple(values.shape)
        values = values.squeeze() if values.ndim > len(shape) else values
        if values.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, values.shape, strict=True)):
            wanted = ", ".join("any" if side is None else str(side) for side in shape)
            raise DataError(f"has shape {given}; expected ({wanted})")
        return values


def expect_same_size(pair: Pair, prediction: Tensor, truth: Tensor) -> None:
    """Raise `DataError` unless both maps (..., height, width) have the same height and width."""
    if prediction.shape[-2:] != truth.shape[-2:]:
        given, wanted = ("{} wide and {} high".format(*reversed(values.shape[-2:])) for values in (prediction, truth))
        raise DataError(
            f"{pair.prediction}: is {given}, its truth {pair.truth} is {wanted}; bring predictions to the size of the truth "
            "before they are scored (class ids by the nearest pixel)"
        )


def expect_numbers(pair: Pair, prediction: Tensor, known: Tensor, instead: str) -> None:
    """Raise `DataError` if the prediction is nan or infinite on a known pixel; `instead` says what to write there."""
    if broken := int((known & ~prediction.isfinite()).sum()):
        raise DataError(f"{pair.prediction}: is nan or infinite at {broken} of {int(known.sum())} known pixels; {instead}")
