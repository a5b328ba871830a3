"""Scores of boundary maps on disk."""

from functools import partial
from pathlib import Path

from torch import Tensor

from ubertrain.annotation.edges import Edges
from ubertrain.data.blame import blame
from ubertrain.data.bsds import read_drawings
from ubertrain.data.images import read_lines
from ubertrain.metrics.boundary_f import BoundaryF
from ubertrain.scoring.each import Watch, unwatched
from ubertrain.scoring.maps import UNKNOWN, expect_numbers, expect_same_size, gather, is_array
from ubertrain.scoring.pairs import PLAIN, Naming, Pair, pairs
from ubertrain.scoring.score import Score
from ubertrain.scoring.strength_maps import STRENGTHS, expect_light, load_labels, read_strength

TRUTH_ENDINGS = (".mat", ".png", ".bmp", ".npy")


def score_boundaries(
    predictions: Path,
    truth: Path,
    *,
    tolerance: float = 0.0075,
    thresholds: int = 99,
    nms: bool = False,
    thin: bool = True,
    naming: Naming = PLAIN,
    workers: int = 1,
    watch: Watch = unwatched,
) -> Score:
    """Score boundary maps as BSDS500's benchmark does: ODS, OIS, AP and the precision-recall curve; see `BoundaryF`.

    Args:
        predictions: a folder, or one file: see `read_strength`.
        truth: a folder, or one file: .mat of BSDS500, a picture in which what is not black is a boundary, or .npy of 0, 1 and
            255 = unknown, (height, width) or (annotators, height, width).
        tolerance: the largest distance of a match as a share of the diagonal: 0.0075 for BSDS500, 0.011 for NYUD.
        thresholds: how many, evenly spaced between 0 and 1.
        nms: whether predictions are first reduced to their ridges; needed for what a network puts out, unless that is done.
        thin: whether to thin what a threshold leaves.
        naming: see `pairs`.
        workers: see `each`.
        watch: see `each`.

    Raises:
        DataError: names the file.
    """
    make = partial(BoundaryF, tolerance=tolerance, thresholds=thresholds, nms=nms, thin=thin)
    found = pairs(predictions, truth, STRENGTHS, TRUTH_ENDINGS, naming)
    result = gather(partial(_judge, make=make), make, found, workers=workers, watch=watch)
    expect_light((pair.prediction for pair in found.pairs), dark=not result.metric.sums[0, 0])
    how = f"{'ridges of the predictions' if nms else 'predictions as they are'}, {'thinned' if thin else 'not thinned'}"
    return Score(
        protocol=f"boundaries as in BSDS500's benchmark: one-to-one matches within {tolerance:g} of the diagonal, "
        f"{thresholds} thresholds; {how}",
        scores=result.metric.compute(),
        images=len(result.per_image),
        skipped=result.skipped,
        per_image=result.per_image,
        curve=result.metric.curve(),
    )


def _judge(pair: Pair, *, make: partial[BoundaryF]) -> Tensor | str:
    prediction, truth = read_strength(pair.prediction), read_edges(pair.truth)
    expect_same_size(pair, prediction, truth)
    known = (truth != Edges.unknown).any(dim=0)
    expect_numbers(pair, prediction, known, "write 0 where there is no boundary")
    if not known.any():
        return UNKNOWN
    metric = make()
    with blame(pair.prediction):
        metric.update(prediction[None], truth[None])
    return metric.sums


def read_edges(path: Path) -> Tensor:
    """True boundaries, (annotators, height, width) uint8 of 0, 1 and 255 = unknown; see `score_boundaries` for the formats.

    Raises:
        DataError: names the file.
    """
    if path.suffix.lower() == ".mat":
        return read_drawings(path)
    if is_array(path):
        planes = load_labels(path, 2, 3)
        planes = planes[None] if planes.ndim == 2 else planes
        with blame(path):
            Edges.check(planes, (planes.shape[1], planes.shape[2]))
        return planes
    return read_lines(path)[None]
