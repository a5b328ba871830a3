"""How well predicted boundaries agree with those that people drew."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.metrics.constants import EdgesEverywhere
from ubertrain.metrics.sums import SumMetric, ratio
from ubertrain.ops.pixels import to_size
from ubertrain.ops.ridges import ridges

_THRESHOLDS = 99


class BoundaryF(SumMetric):
    """F-measure of thinned boundaries at the best of 99 thresholds for the whole set, with a tolerance in place.

    The counts follow the BSDS benchmark (Martin et al. 2004; Arbelaez et al. 2011): recall is the share of boundary pixels,
    summed over annotators, that have a prediction within `tolerance` of the image diagonal; precision is the share of predicted
    pixels that have a boundary pixel of any annotator within it. What differs: pixels correspond **by distance alone**, not one
    to one. Several predictions may claim one boundary pixel and the other way round, so scores lie above those of the benchmark
    and must not be compared with published ODS. To bound the difference, the prediction is thinned to its ridges first.

    - `F`, and the `precision`, `recall` and `threshold` at which it is reached.
    - `F_image`: as F, with the best threshold chosen for each image instead.

    Pixels that no annotator knows count neither way. Without a boundary pixel in the labels everything is nan.

    Args:
        tolerance: as a share of the diagonal of the image (of the batch's tensor): 0.0075 as for BSDS500, 0.011 for NYUD.
        thin: whether to reduce the prediction to its ridges.
    """

    primary: ClassVar[str] = "F"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, *, tolerance: float = 0.0075, thin: bool = True) -> None:
        super().__init__(2, 4, _THRESHOLDS)  # pooled and at each image's best; see _counts
        self.tolerance, self.thin = tolerance, thin

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count matches.

        Args:
            prediction: (rows, height, width), probability of a boundary.
            target: (rows, annotators, height, width) uint8: 0, 1, 255 = unknown.
        """
        known = (target != 255).any(dim=1)
        strength = to_size(prediction, target.shape[-2:]).float()
        strength = torch.where(known, ridges(strength) if self.thin else strength, 0.0)
        radius = self.tolerance * math.hypot(*target.shape[-2:])
        counts = _counts(strength, (target == 1).sum(dim=1), radius)
        drawn, predicted = counts[:, 2], counts[:, 0]  # an image without boundaries is best left empty
        best = torch.where(drawn > 0, _scores(counts)[0], -predicted).argmax(dim=-1)
        chosen = counts.gather(-1, best.view(-1, 1, 1).expand(-1, 4, 1))
        self.add(torch.stack([counts.sum(dim=0), chosen.expand_as(counts).sum(dim=0)]))

    def compute(self) -> dict[str, float]:
        (f, precision, recall), (f_image, _, _) = _scores(self.sums[0]), _scores(self.sums[1])
        best = int(f.nan_to_num(-1).argmax())
        return {
            "F": float(f[best]),
            "precision": float(precision[best]),
            "recall": float(recall[best]),
            "threshold": math.nan if f[best].isnan() else (best + 1) / (_THRESHOLDS + 1),
            "F_image": float(f_image[0]),
        }

    def constant(self) -> EdgesEverywhere:
        return EdgesEverywhere()


def _counts(strength: Tensor, votes: Tensor, radius: float) -> Tensor:
    """What the scores are made of, (rows, 4, thresholds) float64: predicted, of these matched, drawn, of these matched.

    One widening of either side serves all thresholds: a drawn pixel is matched at every threshold up to the strongest
    prediction within `radius`.

    Args:
        strength: (rows, height, width), the prediction.
        votes: (rows, height, width), how many annotators drew a boundary here.
        radius: in pixels.
    """
    near_drawn = _widened((votes > 0).float(), radius) > 0
    levels, reached = _level(strength), _level(_widened(strength, radius))
    return torch.stack(
        [
            _above(levels, torch.ones_like(strength)),
            _above(levels, near_drawn),
            _above(torch.full_like(levels, _THRESHOLDS), votes),
            _above(reached, votes),
        ],
        dim=1,
    )


def _scores(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """F, precision and recall (..., thresholds) of counts (..., 4, thresholds); F is 0 where nothing is predicted."""
    predicted, right, drawn, found = counts.unbind(dim=-2)
    precision, recall = ratio(right, predicted), ratio(found, drawn)
    f = ratio(2 * precision * recall, precision + recall)
    return torch.where(drawn > 0, f.nan_to_num(0.0), torch.nan), precision, recall


def _level(strength: Tensor) -> Tensor:
    """How many of the thresholds 0.01, 0.02, ..., 0.99 lie at or below each strength, int64."""
    thresholds = torch.arange(1, _THRESHOLDS + 1, device=strength.device) / (_THRESHOLDS + 1)
    return torch.bucketize(strength, thresholds, right=True)


def _above(levels: Tensor, weights: Tensor) -> Tensor:
    """The sum of `weights` over the pixels of each image that reach each threshold: (rows, thresholds) float64."""
    rows = len(levels)
    row = torch.arange(rows, device=levels.device).view(-1, 1, 1) * (_THRESHOLDS + 1)
    sums = torch.bincount((levels + row).flatten(), weights.flatten().double(), minlength=rows * (_THRESHOLDS + 1))
    return sums.view(rows, -1).flip(1).cumsum(1).flip(1)[:, 1:]


def _widened(values: Tensor, radius: float) -> Tensor:
    """The largest of `values` (rows, height, width), >= 0, within `radius` pixels of each pixel."""
    reach, (height, width) = int(radius), values.shape[-2:]
    padded = F.pad(values, (reach, reach, reach, reach))
    beside = [padded[..., reach : reach + width]]  # the largest within 0, 1, ... columns; a disk is made of such rows
    for dx in range(1, reach + 1):
        left, right = padded[..., reach - dx : reach - dx + width], padded[..., reach + dx : reach + dx + width]
        beside.append(torch.maximum(beside[-1], torch.maximum(left, right)))
    result = values
    for dy in range(-reach, reach + 1):
        row = beside[int(math.sqrt(radius**2 - dy**2))]
        result = torch.maximum(result, row[:, reach + dy : reach + dy + height])
    return result
