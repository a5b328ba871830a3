"""Scores of depth maps on disk."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from ubertrain.data.images import read_depth
from ubertrain.errors import ConfigError
from ubertrain.metrics.depth_crops import Crop
from ubertrain.metrics.depth_errors import Align, DepthErrors
from ubertrain.scoring.each import Watch, unwatched
from ubertrain.scoring.maps import UNKNOWN, expect_numbers, expect_same_size, gather, is_array, read_array
from ubertrain.scoring.pairs import PLAIN, Naming, Pair, pairs
from ubertrain.scoring.score import Score

ENDINGS = (".png", ".npy")


def score_depth(
    predictions: Path,
    truth: Path,
    *,
    scale: float = 1000.0,
    truth_scale: float | None = None,
    valid: tuple[float, float] = (1e-3, math.inf),
    crop: Crop = "none",
    align: Align = "none",
    naming: Naming = PLAIN,
    workers: int = 1,
    watch: Watch = unwatched,
) -> Score:
    """Score depth maps: 16-bit grey PNG, or .npy of metres; 0 is no reading, and so are 65535 in a PNG and nan in a true .npy.

    Args:
        predictions: a folder, or one file.
        truth: a folder, or one file.
        scale: units per metre in PNGs: 1000 for millimetres, 256 as in KITTI, 5000 as in TUM; .npy are metres always.
        truth_scale: the same for the truth; None: `scale`.
        valid: nearest and farthest depth in metres, see `DepthErrors`.
        crop: see `Crop`.
        align: see `Align`; "median" is for predictions without a scale of their own.
        naming: see `pairs`.
        workers: see `each`.
        watch: see `each`.

    Raises:
        DataError: names the file.
        ConfigError: a scale or a valid range that is none.
    """
    scales = (scale, scale if truth_scale is None else truth_scale)
    if not all(0 < units < math.inf for units in scales):
        raise ConfigError(f"scale is units per metre, e.g. 1000 for millimetres; given are {scales[0]:g} and {scales[1]:g}")
    make = partial(DepthErrors, valid=valid, crop=crop, align=align)
    judge = partial(_judge, make=make, scales=scales)
    result = gather(judge, make, pairs(predictions, truth, ENDINGS, naming=naming), workers=workers, watch=watch)
    aligned = "each image's median brought to that of its truth" if align == "median" else "not aligned"
    return Score(
        protocol=f"depth in metres, truth from {valid[0]:g} to {valid[1]:g} m, crop {crop}, {aligned}; pooled over pixels, and "
        "averaged over images (_image)",
        scores=result.metric.compute(),
        images=len(result.per_image),
        skipped=result.skipped,
        per_image={name: _of_pixels(scores) for name, scores in result.per_image.items()},
    )


def _judge(pair: Pair, *, make: partial[DepthErrors], scales: tuple[float, float]) -> Tensor | str:
    prediction, truth = _read(pair.prediction, scales[0]), _read(pair.truth, scales[1])
    expect_same_size(pair, prediction, truth)
    metric = make()
    known = metric.counted(truth)
    expect_numbers(pair, prediction, known, "write 0 where there is no prediction: it is counted as missing")
    metric.update(prediction[None], truth[None])
    return metric.sums if bool(metric.sums[0, 0] > 0) else UNKNOWN


def _read(path: Path, scale: float) -> Tensor:
    # float64, because on a grid of millimetres many ratios are 1.25 to the last digit
    if is_array(path):
        units = "a .npy is of metres, as fractions; other units are for 16-bit PNG, with their scale"
        return read_array(path, None, None, refused="iu", instead=units)
    return read_depth(path, 1.0).double() / scale


def _of_pixels(scores: Mapping[str, float]) -> dict[str, float]:
    """Without the averages over images, which are the same for one image."""
    return {name: value for name, value in scores.items() if not name.endswith("_image")}
