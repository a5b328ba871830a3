"""Disparities that never look at the image."""

import torch
from torch import Tensor

from ubertrain.metrics.constants import Constant
from ubertrain.ops.disparity import shifted

_SMALLEST, _LARGEST = 1e-4, 1.0
_BINS = 2000
_TRIED = 24


class MedianDisparity(Constant):
    """The disparity c with the least mean |t / c - 1|: the median of the true ones, each weighted by itself.

    Read from a histogram of 2000 equal steps of its logarithm, so within 0.5 %. Before any was seen: 0.05.
    """

    def __init__(self) -> None:
        self._weights = torch.zeros(_BINS, dtype=torch.float64)

    def observe(self, target: dict[str, Tensor]) -> None:
        known = target["disparity"][target["valid"] & (target["disparity"] > 0)].double().cpu()
        place = (known / _SMALLEST).log() / torch.tensor(_LARGEST / _SMALLEST, dtype=torch.float64).log()
        self._weights += torch.bincount((place * _BINS).long().clamp(0, _BINS - 1), known, minlength=_BINS)

    @property
    def disparity(self) -> float:
        """The answer."""
        upto = self._weights.cumsum(0)
        if not upto[-1]:
            return 0.05
        middle = int(torch.searchsorted(upto, upto[-1] / 2)) + 0.5
        return float(_SMALLEST * (_LARGEST / _SMALLEST) ** (middle / _BINS))

    def prediction(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"disparity": torch.full_like(target["disparity"], self.disparity)}


class ShiftedView(Constant):
    """The one shift, of 24 from 0.3 % to 30 % of the width, that makes the other views most like the images."""

    def __init__(self) -> None:
        self._tried = torch.logspace(-2.5229, -0.5229, _TRIED, dtype=torch.float64)
        self._differences = torch.zeros(_TRIED, dtype=torch.float64)

    def observe(self, target: dict[str, Tensor]) -> None:
        own, other = (target[name].float() / 255 for name in ("own", "other"))
        for place, disparity in enumerate(self._tried.tolist()):
            shift = -target["side"].view(-1, 1, 1) * disparity * own.shape[-1]
            made = shifted(other, shift.expand_as(target["disparity"]))
            self._differences[place] += (own - made).abs().mean(dim=1)[target["valid"]].sum().cpu()

    def prediction(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        best = float(self._tried[self._differences.argmin()])
        return {"disparity": torch.full_like(target["disparity"], best)}
