"""How well a saliency map fits, by the conventions in use."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics.constants import MeanMask
from ubertrain.metrics.covering import covering
from ubertrain.metrics.s_measure import s_measure
from ubertrain.metrics.sums import SumMetric, ratio

_LEVELS = 256
_BETA_SQUARED = 0.3
_ROWS = ("precision", "recall", "f", "objects", "iou", "marked", "found", "salient", "error", "structure", "images")
"""What is summed, for each of the 256 thresholds; what does not depend on the threshold is the same at each."""

# The smallest level of 0 .. 255 above (then: at or above) each threshold of these conventions, which are hundredths.
_ASTMT = [255 * hundredths // 100 + 1 for hundredths in range(20, 91, 5)]
_POOLED = [-(-255 * hundredths // 100) for hundredths in range(5, 96, 5)]


class SaliencyF(SumMetric):
    """F-measures of a saliency map, its absolute error and its structure measure.

    Maps are taken in steps of 1/255, as they are kept in files, so that the scores of a run are those of its saved maps.

    - `maxF`: precision and recall at each of the thresholds 0 to 255, averaged over images; the largest F of these averages,
      with beta^2 = 0.3 (Achanta et al. 2009; Borji et al. 2015). `threshold` is where, from 0 to 1. Images without a salient
      pixel have no recall and are left out.
    - `maxF_image`: F of each image at each of these thresholds, averaged over images; the largest of these averages. This is
      the max F of today's toolboxes (PySODMetrics).
    - `MAE`: the mean absolute difference, averaged over images (Perazzi et al. 2012).
    - `S`: the structure measure, averaged over images; see `s_measure`.
    - `maxF_pooled`: as maxF, but of pixels pooled over the set, at thresholds 0.05, 0.10, ..., 0.95 (ATRC, InvPT).
    - `mIoU_astmt` and `maxF_astmt`: the largest of the averages over images of IoU, and the largest F with beta^2 = 1 of the
      averages of precision and recall, at thresholds 0.20, 0.25, ..., 0.90 (ASTMT, and the survey of Vandenhende et al. 2021).
      An image without a salient pixel counts 0, or an IoU of 1 where nothing is predicted.

    The F-measures of the four conventions must not be compared with each other. Where nothing is predicted, precision is 0.
    """

    primary: ClassVar[str] = "maxF"
    higher_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(len(_ROWS), _LEVELS)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add images; those without a known pixel are left out.

        Args:
            prediction: (rows, height, width), from 0 to 1.
            target: (rows, height, width): 1 = salient, 0, 255 = unknown.

        Raises:
            DataError: a prediction of another size, or one that is not a number from 0 to 1.
        """
        levels = _levels(covering(prediction, target), target)
        labelled = (target != 255).flatten(1).any(dim=1)
        self._add_images(levels[labelled], target[labelled])

    def compute(self) -> dict[str, float]:
        sums = dict(zip(_ROWS, self.sums, strict=True))
        images, (precision, recall) = sums["images"], self.curve()
        f = f_measure(precision, recall, _BETA_SQUARED)
        best = int(f.nan_to_num(-1).argmax())
        own = ratio(sums["f"], sums["objects"])
        pooled = f_measure(ratio(sums["found"], sums["marked"]), ratio(sums["found"], sums["salient"]), _BETA_SQUARED)
        astmt = f_measure(ratio(sums["precision"], images), ratio(sums["recall"], images), 1.0)
        return {
            "maxF": float(f[best]),
            "threshold": math.nan if f[best].isnan() else best / (_LEVELS - 1),
            "maxF_image": float(own.max()),
            "MAE": float(ratio(sums["error"], images)[0]),
            "S": float(ratio(sums["structure"], images)[0]),
            "maxF_pooled": float(pooled[_POOLED].max()),
            "mIoU_astmt": float(ratio(sums["iou"], images)[_ASTMT].max()),
            "maxF_astmt": float(astmt[_ASTMT].max()),
        }

    def curve(self) -> tuple[Tensor, Tensor]:
        """Precision and recall averaged over images, each (256,), at the thresholds 0, 1/255, ..., 1."""
        sums = dict(zip(_ROWS, self.sums, strict=True))
        return ratio(sums["precision"], sums["objects"]), ratio(sums["recall"], sums["objects"])

    def constant(self) -> MeanMask:
        return MeanMask()

    def _add_images(self, levels: Tensor, target: Tensor) -> None:
        """Add labelled images, `levels` being the prediction from 0 to 255, int64."""
        known, truth = target != 255, target == 1
        marked, found = _at_or_above(levels, known), _at_or_above(levels, truth)
        salient = truth.sum(dim=(1, 2), dtype=torch.float64)[:, None]
        either = marked + salient - found
        absolute = (levels.double() / (_LEVELS - 1) - truth.double()).abs()
        error = torch.where(known, absolute, 0.0).sum(dim=(1, 2)) / known.sum(dim=(1, 2)).double()
        precision, recall = ratio(found, marked).nan_to_num(0.0), ratio(found, salient)
        rows = {
            "precision": precision,
            "recall": recall.nan_to_num(0.0),
            "f": f_measure(precision, recall, _BETA_SQUARED).nan_to_num(0.0),
            "objects": salient > 0,
            "iou": torch.where(either > 0, ratio(found, either), 1.0),
            "marked": marked,
            "found": found,
            "salient": salient,
            "error": error[:, None],
            "structure": s_measure(levels.double() / (_LEVELS - 1), target)[:, None],
            "images": torch.ones_like(salient),
        }
        self.add(torch.stack([rows[name].double().expand(len(levels), _LEVELS).sum(dim=0) for name in _ROWS]))


def f_measure(precision: Tensor, recall: Tensor, beta_squared: float) -> Tensor:
    """(1 + beta^2) P R / (beta^2 P + R); 0 where both are 0, nan where recall is."""
    f = ratio((1 + beta_squared) * precision * recall, beta_squared * precision + recall)
    return torch.where(recall.isnan(), torch.nan, f.nan_to_num(0.0))


def _levels(prediction: Tensor, target: Tensor) -> Tensor:
    """Predictions in steps of 1/255, int64 from 0 to 255; 0 where the truth is unknown."""
    values = torch.where(target != 255, prediction, torch.zeros_like(prediction)).float()
    if not bool(((values >= 0) & (values <= 1)).all()):
        wrong = values[~((values >= 0) & (values <= 1))][0].item()
        raise DataError(f"a saliency map must hold numbers from 0 to 1; this one holds {wrong:g}")
    return (values * (_LEVELS - 1)).round().long()


def _at_or_above(levels: Tensor, mask: Tensor) -> Tensor:
    """How many pixels of `mask` reach each of the levels 0 to 255 in each image: (rows, 256) float64."""
    row = torch.arange(len(levels), device=levels.device).view(-1, 1, 1) * _LEVELS
    counts = torch.bincount((levels + row).flatten(), mask.flatten().double(), minlength=len(levels) * _LEVELS)
    return counts.view(len(levels), _LEVELS).flip(1).cumsum(1).flip(1)
