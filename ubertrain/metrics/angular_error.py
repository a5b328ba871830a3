"""How far predicted surface normals point off."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from ubertrain.metrics.constants import MeanNormal
from ubertrain.metrics.covering import covering
from ubertrain.metrics.sums import SumMetric, ratio

_BINS = 18000
"""Of the histogram from 0 to 180 degrees, so one is 0.01 degrees wide."""
_LIMITS = (11.25, 22.5, 30.0)
_SHORTEST = 1e-12


class AngularError(SumMetric):
    """The angle between predicted and true normal in degrees, pooled over all pixels of the set that have one.

    - `mean`, `RMSE`; `median`, read from a histogram of 0.01 degree bins and thus within 0.01 degrees of the exact one.
    - `within_11.25`, `within_22.5`, `within_30`: the share of pixels below that angle (Fouhey et al. 2013).
    - `missing`: the share of pixels whose prediction has no direction, because its length is 0 or nan. They are not left out
      but count as 90 degrees, what a direction that says nothing is off by.

    The angle is 2 atan2(|a - b|, |a + b|), which keeps its precision near 0 and 180 where the arc cosine loses it.
    """

    primary: ClassVar[str] = "mean"
    higher_is_better: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(4 + len(_LIMITS) + _BINS)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the pixels that have a normal.

        Args:
            prediction: (rows, 3, height, width), of any length.
            target: (rows, 3, height, width), of any length; shorter than 1e-12 or not finite is unknown.

        Raises:
            DataError: the prediction is of another size.
        """
        predicted = covering(prediction, target, channels=(3,)).detach().movedim(1, -1)
        known = self.counted(target)
        truth, _ = _unit(target.detach().movedim(1, -1)[known].double())
        normals, missing = _unit(predicted[known].double())
        apart, together = (truth - normals).norm(dim=-1), (truth + normals).norm(dim=-1)
        angles = torch.where(missing, 90.0, torch.rad2deg(2 * torch.atan2(apart, together)))
        bins = (angles * (_BINS / 180)).long().clamp(max=_BINS - 1)
        shares = [missing, *(angles < limit for limit in _LIMITS)]
        terms = [torch.ones_like(angles), angles, angles**2, *(share.double() for share in shares)]
        self.add(torch.cat([torch.stack([term.sum() for term in terms]), torch.bincount(bins, minlength=_BINS)]))

    @staticmethod
    def counted(target: Tensor) -> Tensor:
        """Which pixels of (rows, 3, height, width) true normals have a direction, (rows, height, width) bool."""
        length = target.detach().double().norm(dim=1)
        return (length > _SHORTEST) & length.isfinite()

    def compute(self) -> dict[str, float]:
        angle, squared, missing, *within = ratio(self.sums[1 : 4 + len(_LIMITS)], self.sums[0])
        return {
            "mean": float(angle),
            "median": self._median(),
            "RMSE": float(squared.sqrt()),
            **{f"within_{limit:g}": float(share) for limit, share in zip(_LIMITS, within, strict=True)},
            "missing": float(missing),
        }

    def constant(self) -> MeanNormal:
        return MeanNormal()

    def _median(self) -> float:
        """The middle angle, or the mean of the two in the middle, in degrees; pixels are spread evenly over their bin."""
        pixels = int(self.sums[0])
        if not pixels:
            return math.nan
        counts = self.sums[4 + len(_LIMITS) :]
        upto = counts.cumsum(0)
        ranks = torch.tensor([(pixels - 1) // 2 + 0.5, pixels // 2 + 0.5], dtype=torch.float64)
        bins = torch.searchsorted(upto, ranks)
        place = (ranks - upto[bins] + counts[bins]) / counts[bins]
        return float((bins + place).mean()) * 180 / _BINS


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (n, 3) made unit, and which of them have no direction, (n,) bool."""
    length = vectors.norm(dim=-1)
    missing = ~((length > _SHORTEST) & length.isfinite())
    return torch.where(missing, 0.0, vectors.movedim(-1, 0) / torch.where(missing, 1.0, length)).movedim(0, -1), missing
