"""Scores of saliency maps on disk."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ubertrain.data.blame import blame
from ubertrain.data.images import read_grey, read_mask
from ubertrain.errors import DataError
from ubertrain.metrics.saliency import SaliencyF
from ubertrain.scoring.each import Watch, unwatched
from ubertrain.scoring.maps import expect_numbers, expect_same_size, gather, is_array, read_array
from ubertrain.scoring.pairs import PLAIN, Naming, Pair, pairs
from ubertrain.scoring.score import Score

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".npy")
TRUTH_ENDINGS = (".png", ".bmp", ".jpg")


def score_saliency(
    predictions: Path,
    truth: Path,
    *,
    stretch: bool = False,
    naming: Naming = PLAIN,
    workers: int = 1,
    watch: Watch = unwatched,
) -> Score:
    """Score saliency maps: grey pictures from black to white, or .npy from 0 to 1.

    The truth is a mask whose white is salient, see `read_mask`; nothing is unknown.

    Args:
        predictions: a folder, or one file.
        truth: a folder, or one file.
        stretch: whether each map is first stretched from its least value at 0 to its greatest at 1, as the published toolboxes
            do; a constant map is left as it is.
        naming: see `pairs`.
        workers: see `each`.
        watch: see `each`.

    Raises:
        DataError: names the file.
    """
    found = pairs(predictions, truth, ENDINGS, TRUTH_ENDINGS, naming)
    result = gather(partial(_judge, stretch=stretch), SaliencyF, found, workers=workers, watch=watch)
    _expect_light(predictions, result.metric)
    precision, recall = (values.tolist() for values in result.metric.curve())
    return Score(
        protocol="saliency; maxF with beta^2 = 0.3 of precision and recall averaged over images at 256 thresholds; F of "
        "each image averaged (_image); pooled over pixels (_pooled); beta^2 = 1 at 15 thresholds (_astmt); MAE; S-measure; "
        + ("each map stretched to 0..1" if stretch else "maps as they are"),
        scores=result.metric.compute(),
        images=len(result.per_image),
        skipped=result.skipped,
        per_image=result.per_image,
        curve=tuple(
            {"threshold": level / 255, "precision": p, "recall": r}
            for level, (p, r) in enumerate(zip(precision, recall, strict=True))
        ),
    )


def _expect_light(predictions: Path, metric: SaliencyF) -> None:
    """Raise `DataError` if no map of the whole set is brighter than 1 of 255, though some pixel is that bright."""
    _, recall = metric.curve()
    if float(recall[1]) > 0 and not float(recall[2:].max()) > 0:
        raise DataError(f"{predictions}: no pixel is brighter than 1 of 255; write masks as 0 and 255, or pass --stretch")


def _judge(pair: Pair, *, stretch: bool) -> Tensor:
    prediction, truth = _read(pair.prediction), read_mask(pair.truth)
    expect_same_size(pair, prediction, truth)
    expect_numbers(pair, prediction, torch.ones_like(truth, dtype=torch.bool), "a saliency map is a number everywhere")
    if stretch and prediction.max() > prediction.min():
        prediction = (prediction - prediction.min()) / (prediction.max() - prediction.min())
    metric = SaliencyF()
    with blame(pair.prediction):
        metric.update(prediction[None], truth[None])
    return metric.sums


def _read(path: Path) -> Tensor:
    return read_array(path, None, None) if is_array(path) else read_grey(path)
