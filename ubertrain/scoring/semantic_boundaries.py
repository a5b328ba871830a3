"""Scores of boundaries of classes on disk."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ubertrain.annotation.semantic_edges import SemanticEdges
from ubertrain.data.blame import blame
from ubertrain.data.sbd import read_semantic_edges
from ubertrain.data.voc import CLASSES
from ubertrain.errors import DataError
from ubertrain.metrics.semantic_boundary_f import Leniency, SemanticBoundaryF
from ubertrain.scoring.each import Watch, unwatched
from ubertrain.scoring.maps import UNKNOWN, expect_numbers, expect_same_size, gather
from ubertrain.scoring.pairs import PLAIN, Naming, Pair, pairs
from ubertrain.scoring.score import Score
from ubertrain.scoring.strength_maps import STRENGTHS, expect_light, load_array, load_labels, read_strength

TRUTH_ENDINGS = (".mat", ".npy")
_RULES = {
    "sbd": "insides of objects excused, images without a class not counted for it",
    "none": "every predicted pixel counts",
}


def score_semantic_boundaries(
    predictions: Path,
    truth: Path,
    *,
    classes: Sequence[str] = CLASSES,
    instances: bool = False,
    tolerance: float = 0.02,
    thresholds: int = 99,
    nms: bool = False,
    thin: bool = True,
    leniency: Leniency = "sbd",
    naming: Naming = PLAIN,
    workers: int = 1,
    watch: Watch = unwatched,
) -> Score:
    """Score boundaries class by class as SBD's benchmark does; see `SemanticBoundaryF`.

    Args:
        predictions: a folder with a folder for each class, `class_001` to `class_020` or by name, that hold a map for each
            image (`read_strength`); classes without a folder are not scored, which the protocol tells. Or a folder of .npy,
            (classes, height, width) from 0 to 1.
        truth: SBD's folder with `cls` (and `inst`), or its `cls`; or a folder of .npy, (classes, height, width) uint8 of 0,
            1 = boundary, 2 = inside and 255 = unknown.
        classes: their names in the order of their planes.
        instances: whether boundaries between objects of one class count, too; from SBD's `inst`.
        tolerance: the largest distance of a match as a share of the diagonal: 0.02 for SBD, 0.0035 for Cityscapes.
        thresholds: how many, evenly spaced between 0 and 1.
        nms: whether predictions are first reduced to their ridges.
        thin: whether to thin what a threshold leaves; the "raw" protocol does not.
        leniency: see `Leniency`.
        naming: see `pairs`; what is said of predictions is about the files of a class.
        workers: see `each`.
        watch: see `each`.

    Raises:
        DataError: names the file.
    """
    folders = _class_folders(predictions, classes)
    chosen = sorted(folders) if folders else range(len(classes))
    make = partial(
        SemanticBoundaryF, [classes[index] for index in chosen], tolerance=tolerance, thresholds=thresholds, nms=nms, thin=thin,
        leniency=leniency,
    )  # fmt: skip
    where = folders[chosen[0]] if folders else predictions
    true = truth / "cls" if (truth / "cls").is_dir() else truth
    found = pairs(where, true, STRENGTHS if folders else (".npy",), TRUTH_ENDINGS, naming)
    judge = partial(
        _judge, make=make, folders=folders, classes=len(classes), instances=instances, skip=naming.missing == "skip"
    )
    result = gather(judge, make, found, workers=workers, watch=watch)
    if folders:
        expect_light(
            (folder / pair.prediction.relative_to(where) for pair in found.pairs for folder in folders.values()),
            dark=not result.metric.sums[:, 0, 0].any(),
        )
    return Score(
        protocol=f"boundaries of {len(chosen)} of {len(classes)} classes as in SBD's benchmark: one-to-one matches within "
        f"{tolerance:g} of the diagonal, {thresholds} thresholds; {'ridges of the predictions, ' if nms else ''}"
        f"{'thinned' if thin else 'not thinned'}; {_RULES[leniency]}; boundaries of {'objects' if instances else 'classes'}",
        scores=result.metric.compute(),
        images=len(result.per_image),
        skipped=result.skipped,
        classes=result.metric.by_class(),
        per_image=result.per_image,
        curve=result.metric.curve() if len(chosen) == 1 else None,
    )


def _class_folders(predictions: Path, classes: Sequence[str]) -> dict[int, Path]:
    """The folders of single classes in `predictions`, by the position of the class; none if it holds no folder.

    Raises:
        DataError: a folder that is named like no class, or two of one class.
    """
    found: dict[int, Path] = {}
    for folder in sorted(path for path in predictions.glob("[!.]*") if path.is_dir()):
        number = re.fullmatch(r"class_?0*([1-9]\d*)", folder.name)
        index = int(number[1]) - 1 if number else classes.index(folder.name) if folder.name in classes else -1
        if not 0 <= index < len(classes):
            raise DataError(f"{folder}: is named like no class; expected class_001 to class_{len(classes):03}, or their names")
        if index in found:
            raise DataError(f"{found[index]} and {folder} are both predictions of {classes[index]!r}")
        found[index] = folder
    return found


def _judge(
    pair: Pair, *, make: partial[SemanticBoundaryF], folders: Mapping[int, Path], classes: int, instances: bool, skip: bool
) -> Tensor | str:
    truth = _read_truth(pair, classes, instances)
    if folders:
        first, *_ = (folders[index] for index in sorted(folders))
        name = pair.prediction.relative_to(first)
        files = [folders[index] / name for index in sorted(folders)]
        if absent := [file for file in files if not file.exists()]:
            if skip:
                return "no prediction of some class"
            raise DataError(f"{absent[0]}: no prediction of this class, where {pair.prediction} is one of another class")
        maps = [_read_map(Pair(pair.id, file, pair.truth), truth) for file in files]
        prediction, truth = torch.stack(maps), truth[sorted(folders)]
    else:
        prediction = load_array(pair.prediction, 3)
        if len(prediction) != classes:
            raise DataError(f"{pair.prediction}: has {len(prediction)} planes; there are {classes} classes")
        expect_same_size(pair, prediction, truth)
    known = truth != SemanticEdges.unknown
    expect_numbers(pair, prediction, known, "write 0 where there is no boundary")
    if not known.any():
        return UNKNOWN
    metric = make()
    with blame(pair.prediction):
        metric.update(prediction[None], truth[None])
    return metric.sums


def _read_map(pair: Pair, truth: Tensor) -> Tensor:
    """One class's map of strength, of the size of the truth."""
    strength = read_strength(pair.prediction)
    expect_same_size(pair, strength, truth)
    return strength


def _read_truth(pair: Pair, classes: int, instances: bool) -> Tensor:
    """(classes, height, width) uint8; see `SemanticEdges`."""
    if pair.truth.suffix.lower() == ".mat":
        objects = pair.truth.parent.parent / "inst" / pair.truth.name if instances else None
        planes = read_semantic_edges(pair.truth, objects)
    elif instances:
        raise DataError(f"{pair.truth}: boundaries of objects come from SBD's inst/*.mat; draw them into the .npy instead")
    else:
        planes = load_labels(pair.truth, 3)
        with blame(pair.truth):
            SemanticEdges.check(planes, (planes.shape[1], planes.shape[2]))
    if len(planes) != classes:
        raise DataError(f"{pair.truth}: has {len(planes)} planes; there are {classes} classes")
    return planes
