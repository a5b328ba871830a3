"""How far predicted surface normals point off."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.metrics.constants import MeanNormal
from ubertrain.metrics.sums import SumMetric, ratio
from ubertrain.ops.pixels import to_size

_BINS = 1800
"""Of the histogram from 0 to 180 degrees, so one is 0.1 degrees wide."""
_LIMITS = (11.25, 22.5, 30.0)


class AngularError(SumMetric):
    """The angle between predicted and true normal in degrees, pooled over all pixels of the set that have one.

    - `mean`, `RMSE`; `median`, read from a histogram of 0.1 degree bins and thus within 0.1 degrees of the exact one.
    - `within_11.25`, `within_22.5`, `within_30`: the share of pixels below that angle (Fouhey et al. 2013).

    The angle is 2 atan2(|a - b|, |a + b|), which keeps its precision near 0 where the arc cosine loses it. A prediction of
    length zero counts as 90 degrees.
    """

    primary: ClassVar[str] = "mean"
    higher_is_better: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(3 + len(_LIMITS) + _BINS)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the pixels that have a normal.

        Args:
            prediction: (rows, 3, height, width), of any length.
            target: (rows, 3, height, width), unit vectors; zero = unknown.
        """
        valid = (target != 0).any(dim=1)
        truth = F.normalize(target.movedim(1, -1)[valid].double(), dim=-1)
        normals = F.normalize(to_size(prediction, target.shape[-2:]).movedim(1, -1)[valid].double(), dim=-1)
        apart, together = (truth - normals).norm(dim=-1), (truth + normals).norm(dim=-1)
        angles = torch.rad2deg(2 * torch.atan2(apart, together))
        bins = (angles * (_BINS / 180)).long().clamp(max=_BINS - 1)
        terms = [torch.ones_like(angles), angles, angles**2, *((angles < limit).double() for limit in _LIMITS)]
        self.add(torch.cat([torch.stack([term.sum() for term in terms]), torch.bincount(bins, minlength=_BINS)]))

    def compute(self) -> dict[str, float]:
        angle, squared, *within = ratio(self.sums[1 : 3 + len(_LIMITS)], self.sums[0])
        return {
            "mean": float(angle),
            "median": self._median(),
            "RMSE": float(squared.sqrt()),
            **{f"within_{limit:g}": float(share) for limit, share in zip(_LIMITS, within, strict=True)},
        }

    def constant(self) -> MeanNormal:
        return MeanNormal()

    def _median(self) -> float:
        """Where the histogram reaches half of its sum, in degrees; pixels are spread evenly over their bin."""
        upto = self.sums[3 + len(_LIMITS) :].cumsum(0)
        if not (half := float(upto[-1]) / 2):
            return math.nan
        index = int(torch.searchsorted(upto, half))
        before = float(upto[index - 1]) if index else 0.0
        return (index + (half - before) / (float(upto[index]) - before)) * 180 / _BINS
