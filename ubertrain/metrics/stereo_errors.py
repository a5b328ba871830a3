"""How far off disparities are, and how well they explain one view by the other."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ubertrain.metrics.constants import Constant
from ubertrain.metrics.covering import covering
from ubertrain.metrics.stereo_constants import MedianDisparity, ShiftedView
from ubertrain.metrics.sums import SumMetric, ratio
from ubertrain.ops.disparity import shifted

_LEAST = 0.1
"""Pixels; a smaller answer counts as this, so that far away stays a finite depth."""


class StereoErrors(SumMetric):
    """Disparity d against the other view, and against the true disparity t where it is known; pooled over pixels.

    - `photometric`: mean difference, from 0 to 1, between the image and itself made of the other view. It needs no truth. What
      only one of the views shows, and surfaces without texture, bound what it can tell.
    - `AbsRel`: mean |t / d - 1|, which is the mean relative error of depth; no calibration is needed for it.
    - `D1_all`: share of pixels that are off by 3 pixels or more and by 5 % or more, as on KITTI; in pixels of the tensor.
    - `EPE`: mean |d - t| in pixels of the tensor.
    - `missing`: share of pixels without a prediction: nan, infinite, zero or negative. They count as a disparity of 0.1 pixel.
    """

    primary: ClassVar[str] = "photometric"
    higher_is_better: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(7)

    def update(self, prediction: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        """Add the pixels that are no padding.

        Args:
            prediction: "disparity" (rows, height, width), a share of the width.
            target: a collated stereo annotation.

        Raises:
            DataError: the prediction is of another size.
        """
        truth, valid = target["disparity"].double(), target["valid"]
        width = truth.shape[-1]
        answer = covering(prediction["disparity"], truth).detach().to(truth)
        missing = ~(answer.isfinite() & (answer > 0))
        answer = torch.where(missing, 0.0, answer).clamp(min=_LEAST / width)
        own, other = (target[name].float() / 255 for name in ("own", "other"))
        made = shifted(other, (-target["side"].view(-1, 1, 1) * answer * width).float())
        known = valid & (truth > 0)
        off = (answer - truth).abs() * width
        wrong = (off >= 3) & (off >= 0.05 * truth * width)
        everywhere = [torch.ones_like(truth), (own - made).abs().mean(dim=1), missing]
        where_known = [torch.ones_like(truth), (truth / answer - 1).abs(), wrong, off]
        sums = [term.double()[valid].sum() for term in everywhere] + [term.double()[known].sum() for term in where_known]
        self.add(torch.stack(sums))

    def compute(self) -> dict[str, float]:
        difference, missing = ratio(self.sums[1:3], self.sums[0]).tolist()
        relative, wrong, off = ratio(self.sums[4:], self.sums[3]).tolist()
        return {"photometric": difference, "AbsRel": relative, "D1_all": wrong, "EPE": off, "missing": missing}

    def constant(self) -> Constant:
        return ShiftedView()


class DisparityErrors(StereoErrors):
    """The same, for data sets with true disparities, by which it judges."""

    primary: ClassVar[str] = "AbsRel"

    def constant(self) -> Constant:
        return MedianDisparity()
