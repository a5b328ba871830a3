"""How well predicted boundaries agree with those that people drew."""

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics.boundary_counts import boundary_counts, steps
from ubertrain.metrics.boundary_scores import area, best, own_best, points, shares
from ubertrain.metrics.constants import Hatching
from ubertrain.metrics.covering import covering
from ubertrain.metrics.sums import SumMetric
from ubertrain.ops.ridges import ridges


class BoundaryF(SumMetric):
    """The BSDS500 benchmark: F-measure of boundaries matched one to one with those of each annotator.

    Predictions are reduced to their ridges, cut at each threshold, thinned, and matched within `tolerance` of the diagonal
    (Martin et al. 2004; Arbelaez et al. 2011). Recall pools the annotators' pixels; a predicted pixel is right if it is matched
    with any annotator's. On the benchmark's own fixture every figure agrees with its MATLAB code within 0.001.

    - `ODS`: the largest F of the whole set at one threshold; `precision`, `recall` and `threshold` where it is reached.
    - `OIS`: F with the best threshold of each image.
    - `AP`: the area under the precision-recall curve.

    What this adds to the benchmark: pixels that no annotator knows count neither way, and the diagonal is that of the known
    part of an image. Without a boundary pixel in the labels everything is nan.

    Args:
        tolerance: as a share of the diagonal: 0.0075 as for BSDS500, 0.011 for NYUD.
        thresholds: how many; the benchmark has 99. The curve is interpolated between them, so that a few give nearly the same
            ODS; AP is less exact, since the curve is cut off below the first and above the last.
        nms: whether to reduce predictions to their ridges first; the benchmark expects that done. Thin lines stay.
        thin: whether to thin what a threshold leaves.
    """

    primary: ClassVar[str] = "ODS"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, *, tolerance: float = 0.0075, thresholds: int = 99, nms: bool = True, thin: bool = True) -> None:
        super().__init__(4, thresholds + 1)  # the last column: at each image's best threshold
        self.tolerance, self.thresholds, self.nms, self.thin = tolerance, steps(thresholds), nms, thin

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count matches.

        Args:
            prediction: (rows, height, width), probability of a boundary.
            target: (rows, annotators, height, width) uint8: 0, 1, 255 = unknown.

        Raises:
            DataError: a prediction of another size, or a probability at a known pixel that is not from 0 to 1, nan included.
        """
        known = (target != 255).any(dim=1)
        strength = probabilities(covering(prediction, target), known)
        for image in zip(strength, known.cpu(), target.cpu(), strict=True):
            self.add(torch.from_numpy(self._counts(*image)))

    def compute(self) -> dict[str, float]:
        counts = self.sums.numpy()
        if not counts[2, 0]:
            return dict.fromkeys(("ODS", "OIS", "AP", "precision", "recall", "threshold"), math.nan)
        top = best(counts[:, :-1], self.thresholds)
        own = float(shares(counts[:, -1:])[0][0])
        return {
            "ODS": top.f,
            "OIS": own,
            "AP": area(counts[:, :-1]),
            "precision": top.precision,
            "recall": top.recall,
            "threshold": top.threshold,
        }

    def curve(self) -> tuple[dict[str, float], ...]:
        """Threshold, F, precision and recall at every threshold, the lowest first."""
        return points(self.sums.numpy()[:, :-1], self.thresholds)

    def constant(self) -> Hatching:
        return Hatching()

    def _counts(self, strength: Tensor, known: Tensor, target: Tensor) -> np.ndarray:
        """One image's part of the sums."""
        part = box(known)
        strength, planes = strength[part].double(), (target == 1)[(slice(None), *part)].numpy()
        lines = torch.where(known[part], ridges(strength[None])[0], 0.0) if self.nms else strength
        radius = self.tolerance * math.hypot(*strength.shape)
        return with_best(boundary_counts(lines.numpy(), planes, radius, self.thresholds, thin=self.thin))


def probabilities(prediction: Tensor, known: Tensor) -> Tensor:
    """`prediction` on the CPU with 0 at unknown pixels, once it is clear that the rest are probabilities.

    Args:
        prediction: (rows, ..., height, width), float.
        known: bool, of a shape that expands to the prediction's.

    Raises:
        DataError: one is not from 0 to 1, nan included.
    """
    prediction, known = prediction.detach().cpu(), known.cpu()
    wrong = known & ~((prediction >= 0) & (prediction <= 1))
    if wrong.any():
        example = float(prediction[wrong][0])
        raise DataError(
            f"boundary probabilities must be from 0 to 1; {int(wrong.sum())} of {wrong.numel()} are not, such as {example:g}"
        )
    return torch.where(known, prediction, 0.0)


def box(known: Tensor) -> tuple[slice, slice]:
    """The rows and columns from the first to the last of those in which (height, width) `known` is true anywhere."""
    spans = []
    for dim in (1, 0):
        places = known.any(dim=dim).nonzero()
        spans.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0))
    return spans[0], spans[1]


def with_best(counts: np.ndarray) -> np.ndarray:
    """One image's counts (4, T) with those at its best threshold beside them, (4, T + 1)."""
    chosen = own_best(counts)
    return np.concatenate([counts, counts[:, chosen : chosen + 1]], axis=1)
