"""Scores of surface normals on disk."""

from functools import partial
from pathlib import Path

from torch import Tensor

from ubertrain.annotation.axes import Axes
from ubertrain.data.images import read_normals
from ubertrain.errors import DataError
from ubertrain.metrics.angular_error import AngularError
from ubertrain.scoring.each import Watch, unwatched
from ubertrain.scoring.maps import UNKNOWN, expect_numbers, expect_same_size, gather, is_array, read_array
from ubertrain.scoring.pairs import PLAIN, Naming, Pair, pairs
from ubertrain.scoring.score import Score

ENDINGS = (".png", ".npy")


def score_normals(
    predictions: Path,
    truth: Path,
    *,
    axes: str = "right down forward",
    truth_axes: str | None = None,
    naming: Naming = PLAIN,
    workers: int = 1,
    watch: Watch = unwatched,
) -> Score:
    """Score normals: RGB PNG of 8 or 16 bits that hold (n + 1) / 2, or .npy of shape (height, width, 3) or (3, height, width).

    Black, mid grey and 0 0 0 are unknown in the truth, and so is nan in a .npy; vectors need not have length 1.

    Args:
        predictions: a folder, or one file.
        truth: a folder, or one file.
        axes: the direction in which each of the three numbers grows, see `Axes.parse`.
        truth_axes: the same for the truth; None: `axes`.
        naming: see `pairs`.
        workers: see `each`.
        watch: see `each`.

    Raises:
        DataError: names the file.
        ConfigError: axes that are none.
    """
    judge = partial(_judge, axes=Axes.parse(axes), truth_axes=Axes.parse(truth_axes or axes))
    found = pairs(predictions, truth, ENDINGS, naming=naming)
    result = gather(judge, AngularError, found, workers=workers, watch=watch)
    stored = f'"{axes}"' if axes == (truth_axes or axes) else f'"{axes}", truth "{truth_axes}"'
    return Score(
        protocol=f"angle between normals in degrees, pooled over all pixels with a truth; stored axes {stored}",
        scores=result.metric.compute(),
        images=len(result.per_image),
        skipped=result.skipped,
        per_image=result.per_image,
    )


def _judge(pair: Pair, *, axes: Axes, truth_axes: Axes) -> Tensor | str:
    prediction, truth = axes.converted(_read(pair.prediction)), truth_axes.converted(_read(pair.truth))
    expect_same_size(pair, prediction, truth)
    known = AngularError.counted(truth[None])[0]
    expect_numbers(pair, prediction.sum(dim=0), known, "write 0 0 0 where there is no prediction: it counts as 90 degrees")
    metric = AngularError()
    metric.update(prediction[None], truth[None])
    return metric.sums if bool(known.any()) else UNKNOWN


def _read(path: Path) -> Tensor:
    if not is_array(path):
        return read_normals(path)
    coded = "a .npy is of the vectors themselves, which need a sign; (n + 1) / 2 is for PNG"
    values = read_array(path, None, None, None, refused="u", instead=coded)
    if 3 not in (len(values), values.shape[-1]):
        raise DataError(f"{path}: has shape {tuple(values.shape)}; expected (height, width, 3) or (3, height, width)")
    return values if len(values) == 3 else values.permute(2, 0, 1)
