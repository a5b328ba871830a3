"""Scores of class maps on disk."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics.mean_iou import Absent
from ubertrain.scoring.class_scores import ClassScores
from ubertrain.scoring.each import Watch, unwatched
from ubertrain.scoring.id_maps import ENDINGS, NO_CLASS, Encoding, read_map
from ubertrain.scoring.maps import UNKNOWN, expect_same_size, gather
from ubertrain.scoring.pairs import PLAIN, Naming, Pair, pairs
from ubertrain.scoring.score import Score

NO_PARTS = "its truth shows no part"


def score_segmentation(
    predictions: Path,
    truth: Path,
    *,
    classes: Sequence[str],
    encoding: Encoding = "ids",
    truth_encoding: Encoding | None = None,
    ignore: Sequence[int] | None = None,
    absent: Absent = "left_out",
    background: int | None = None,
    naming: Naming = PLAIN,
    workers: int = 1,
    watch: Watch = unwatched,
) -> Score:
    """Score class maps by one confusion table over all labelled pixels.

    A labelled pixel whose prediction is one of `ignore`, or no class of the encoding, counts as wrong, as `missing`.

    Args:
        predictions: a folder, or one file.
        truth: a folder, or one file.
        classes: their names in the order of their ids.
        encoding: see `Encoding`.
        truth_encoding: the same for the truth; None: `encoding`.
        ignore: ids, as they are stored, that stand for unknown; None: 255, or 65535 where 255 is the id of a class.
        absent: what a class counts that the truth never shows, see `MeanIoU`; the other conventions are told as well.
        background: an id; images whose truth shows nothing else are skipped. None: no image is.
        naming: see `pairs`.
        workers: see `each`.
        watch: see `each`.

    Raises:
        DataError: names the file.
    """
    encodings = encoding, truth_encoding or encoding
    judge = partial(
        _judge,
        classes=len(classes),
        encodings=encodings,
        unknown=tuple(_unknown(one, len(classes)) if ignore is None else tuple(ignore) for one in encodings),
        background=background,
    )
    found = pairs(predictions, truth, ENDINGS, naming=naming)
    result = gather(judge, partial(ClassScores, classes, absent=absent), found, workers=workers, watch=watch)
    others = {f"mIoU_{other}": _by(other, classes, result.metric.sums) for other in get_args(Absent) if other != absent}
    scores = result.metric.compute()
    return Score(
        protocol=f"one table over all labelled pixels of {len(classes)} classes; a class that the truth never shows: {absent}; "
        f"stored as {encodings[0]}, truth as {encodings[1]}",
        scores=scores if all(value == scores["mIoU"] for value in others.values()) else {**scores, **others},
        images=len(result.per_image),
        skipped=result.skipped,
        classes=result.metric.by_class(),
        per_image=result.per_image,
    )


def _unknown(encoding: Encoding, classes: int) -> tuple[int]:
    """What stands for unknown unless that is said: the highest number of as many bits as the ids of the classes take."""
    highest = classes if encoding == "ids_from_1" else classes - 1
    return (255,) if highest < 255 else (65535,)


def _by(absent: Absent, classes: Sequence[str], sums: Tensor) -> float:
    """Mean IoU by another convention."""
    metric = ClassScores(classes, absent=absent)
    metric.add(sums)
    return metric.compute()["mIoU"]


def _judge(
    pair: Pair, *, classes: int, encodings: tuple[Encoding, ...], unknown: tuple[tuple[int, ...], ...], background: int | None
) -> Tensor | str:
    """The confusion table of one image, (classes + 1, classes + 1): truth by prediction, the last of which is no answer."""
    predicted, truth = (read_map(*stored) for stored in zip((pair.prediction, pair.truth), encodings, unknown, strict=True))
    expect_same_size(pair, predicted, truth)
    known = truth != NO_CLASS
    predicted, truth = predicted[known], truth[known]
    if not truth.numel():
        return UNKNOWN
    if background is not None and bool((truth == background).all()):
        return NO_PARTS
    _expect_classes(pair.truth, truth, classes)
    _expect_classes(pair.prediction, predicted[predicted != NO_CLASS], classes)
    answer = torch.where(predicted == NO_CLASS, classes, predicted)
    return torch.bincount(truth * (classes + 1) + answer, minlength=(classes + 1) ** 2).view(classes + 1, -1).double()


def _expect_classes(path: Path, ids: Tensor, count: int) -> None:
    wrong = ids[(ids < 0) | (ids >= count)]
    if wrong.numel():
        raise DataError(
            f"{path}: class id {int(wrong[0])}, of {wrong.numel()} pixels, where there are {count} classes, 0 to {count - 1}; "
            "give all classes, or the ids that stand for unknown with --ignore"
        )
