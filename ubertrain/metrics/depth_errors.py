"""How far off predicted depth is."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ubertrain.errors import ConfigError
from ubertrain.metrics.constants import ConstantDepth
from ubertrain.metrics.covering import covering
from ubertrain.metrics.depth_crops import Crop, cropped
from ubertrain.metrics.sums import SumMetric, ratio

Align = Literal["none", "median"]
"""Whether predictions are taken as they are, or multiplied per image so that their median is the truth's (Zhou et al. 2017)."""

_SCORES = ("AbsRel", "SqRel", "RMSE", "RMSE_log", "log10", "SILog", "delta1", "delta2", "delta3", "missing")


class DepthErrors(SumMetric):
    """The usual errors of metric depth (Eigen et al. 2014), for prediction p and truth t in metres.

    - `AbsRel`: mean |p - t| / t; `SqRel`: mean (p - t)^2 / t, in metres.
    - `RMSE`: root of the mean of (p - t)^2, in metres; `RMSE_log`: of (ln p - ln t)^2; `log10`: mean |log10 p - log10 t|.
    - `SILog`: 100 times the standard deviation of ln p - ln t, as KITTI has it.
    - `delta1`, `delta2`, `delta3`: share of pixels with max(p/t, t/p) below 1.25, 1.25^2, 1.25^3.
    - `missing`: share of pixels whose prediction is nan, infinite, zero or negative. They are not left out: nan counts as
      the nearest valid depth, and so does infinity, unless there is a farthest one.

    These are pooled over all pixels of the set that have a reading, which weighs every pixel alike. The same names followed by
    `_image` are computed for each image and then averaged, which weighs every image alike; this is what most published tables
    on KITTI show. An image without a reading is no image.

    Args:
        valid: nearest and farthest depth in metres. Only truth strictly between them counts, and predictions are clipped to
            them. Usual are (0.001, 80) for KITTI and (0.001, 10) for NYUv2.
        crop: the part of the image that counts, of the tensor as it is given: exact where images fill it.
        align: see `Align`.

    Raises:
        ConfigError: a valid range that is none.
    """

    primary: ClassVar[str] = "AbsRel"
    higher_is_better: ClassVar[bool] = False

    def __init__(self, *, valid: tuple[float, float] = (1e-3, math.inf), crop: Crop = "none", align: Align = "none") -> None:
        if not 0 < valid[0] < valid[1]:
            raise ConfigError(f"valid depths go from a nearest, above 0, to a farthest, in metres; given is {list(valid)}")
        super().__init__(2, 1 + len(_TERMS))  # pixels and their terms; images and their scores, which are as many
        self.valid, self.crop, self.align = valid, crop, align

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the pixels with a reading.

        Args:
            prediction: (rows, height, width), metres.
            target: (rows, height, width), metres; 0, nan and infinity are no reading.

        Raises:
            DataError: the prediction is of another size.
        """
        nearest, farthest = self.valid
        depth, truth = covering(prediction, target).detach().cpu().double(), target.detach().cpu().double()
        known = self.counted(truth)
        truth = torch.where(known, truth, 1.0)
        missing = ~(depth.isfinite() & (depth > 0))
        if self.align == "median":
            depth = depth * _factors(torch.where(missing, nearest, depth), truth, known)
        depth = depth.nan_to_num(nearest, posinf=farthest if math.isfinite(farthest) else nearest, neginf=nearest)
        terms = _terms(depth.clamp(nearest, farthest), truth, missing)
        sums = torch.where(known, terms, 0.0).sum(dim=(-2, -1)).T
        pixels = known.sum(dim=(-2, -1))
        seen = pixels > 0
        scores = _scores(sums[seen] / pixels[seen, None])
        self.add(torch.stack([_with_count(pixels.sum(), sums.sum(dim=0)), _with_count(seen.sum(), scores.sum(dim=0))]))

    def counted(self, target: Tensor) -> Tensor:
        """Which pixels of (..., height, width) true depth count, bool: those with a reading in the range, within the crop."""
        nearest, farthest = self.valid
        inside = cropped(self.crop, (target.shape[-2], target.shape[-1])).to(target.device)
        return (target > nearest) & (target < farthest) & inside

    def compute(self) -> dict[str, float]:
        means = ratio(self.sums[:, 1:], self.sums[:, :1])
        pooled, averaged = _scores(means[:1])[0], means[1]
        return {
            **dict(zip(_SCORES, pooled.tolist(), strict=True)),
            **{f"{name}_image": score for name, score in zip(_SCORES, averaged.tolist(), strict=True)},
        }

    def constant(self) -> ConstantDepth:
        return ConstantDepth()


_TERMS = ("AbsRel", "SqRel", "squared", "squared_log", "log10", "log", "delta1", "delta2", "delta3", "missing")


def _terms(depth: Tensor, truth: Tensor, missing: Tensor) -> Tensor:
    """What is averaged over pixels, (terms, rows, height, width), in the order of `_TERMS`."""
    error, log_error = depth - truth, (depth / truth).log()
    factor = torch.maximum(depth / truth, truth / depth)
    within = [(factor < 1.25**power).double() for power in (1, 2, 3)]
    squared = error**2
    logs = [log_error**2, log_error.abs() / math.log(10), log_error]
    return torch.stack([error.abs() / truth, squared / truth, squared, *logs, *within, missing.double()])


def _scores(means: Tensor) -> Tensor:
    """Means of the terms (n, terms) as scores (n, scores), in the order of `_SCORES`."""
    relative, squared_relative, squared, squared_log, log10, log, *shares = means.unbind(dim=-1)
    spread = (squared_log - log**2).clamp(min=0).sqrt()
    return torch.stack([relative, squared_relative, squared.sqrt(), squared_log.sqrt(), log10, 100 * spread, *shares], dim=-1)


def _factors(depth: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """What brings the median of each image's predictions to that of its truth, (rows, 1, 1); 1 without a reading."""
    factors = torch.ones(len(depth), 1, 1, dtype=torch.float64)
    for row, (predicted, true, where) in enumerate(zip(depth, truth, known, strict=True)):
        if where.any():
            factors[row] = _median(true[where]) / _median(predicted[where])
    return factors


def _median(values: Tensor) -> float:
    """The middle value, or the mean of the two in the middle."""
    ordered = values.sort().values
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _with_count(count: Tensor, sums: Tensor) -> Tensor:
    return torch.cat([count.double().view(1), sums])
