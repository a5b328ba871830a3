"""Scores of maps of body parts on disk."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ubertrain.metrics.mean_iou import Absent
from ubertrain.scoring.class_lists import KNOWN_CLASSES
from ubertrain.scoring.each import Watch, unwatched
from ubertrain.scoring.id_maps import Encoding
from ubertrain.scoring.pairs import PLAIN, Naming
from ubertrain.scoring.score import Score
from ubertrain.scoring.segmentation import score_segmentation


def score_parts(
    predictions: Path,
    truth: Path,
    *,
    classes: Sequence[str] = KNOWN_CLASSES["person_part"],
    background: int = 0,
    encoding: Encoding = "ids",
    truth_encoding: Encoding | None = None,
    ignore: Sequence[int] | None = None,
    absent: Absent = "left_out",
    naming: Naming = PLAIN,
    workers: int = 1,
    watch: Watch = unwatched,
) -> Score:
    """Score maps of parts as `score_segmentation` does, over the images whose truth shows a part (see `PartsIoU`).

    Args:
        predictions: a folder, or one file.
        truth: a folder, or one file.
        classes: their names in the order of their ids.
        background: the id that is no part; it is scored as a class, too.
        encoding: see `Encoding`.
        truth_encoding: the same for the truth; None: `encoding`.
        ignore: ids, as they are stored, that stand for unknown; see `score_segmentation`.
        absent: what a class counts that the truth never shows, see `MeanIoU`.
        naming: see `pairs`.
        workers: see `each`.
        watch: see `each`.

    Raises:
        DataError: names the file.
    """
    score = score_segmentation(
        predictions, truth, classes=classes, encoding=encoding, truth_encoding=truth_encoding, ignore=ignore, absent=absent,
        background=background, naming=naming, workers=workers, watch=watch,
    )  # fmt: skip
    return replace(score, protocol=f"images with parts only; {score.protocol}")
