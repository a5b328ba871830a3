"""How far off predicted depth is."""

from typing import ClassVar

import torch
from torch import Tensor

from ubertrain.metrics.constants import ConstantDepth
from ubertrain.metrics.sums import SumMetric, ratio
from ubertrain.ops.pixels import to_size


class DepthErrors(SumMetric):
    """The usual errors of metric depth (Eigen et al. 2014), pooled over all pixels of the set that have a reading.

    - `AbsRel`: mean |p - t| / t.
    - `RMSE`: root of the mean of (p - t)^2, in metres; `RMSE_log`: of (ln p - ln t)^2.
    - `delta1`, `delta2`, `delta3`: share of pixels with max(p/t, t/p) below 1.25, 1.25^2, 1.25^3.

    Pooling weighs every pixel alike; codes that average per image first give other numbers. Predictions below 1 mm count as
    1 mm; nothing else is clipped, and no crop or median scaling is applied.
    """

    primary: ClassVar[str] = "AbsRel"
    higher_is_better: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(7)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the pixels with a reading.

        Args:
            prediction: (rows, height, width), metres.
            target: (rows, height, width), metres, 0 = no reading.
        """
        truth = target[target > 0].double()
        depth = to_size(prediction, target.shape[-2:])[target > 0].double().clamp(min=1e-3)
        error, log_error = depth - truth, (depth / truth).log()
        factor = torch.maximum(depth / truth, truth / depth)
        within = [(factor < 1.25**power).double() for power in (1, 2, 3)]
        terms = [torch.ones_like(truth), error.abs() / truth, error**2, log_error**2, *within]
        self.add(torch.stack([term.sum() for term in terms]))

    def compute(self) -> dict[str, float]:
        absolute, squared, squared_log, *within = ratio(self.sums[1:], self.sums[0])
        return {
            "AbsRel": float(absolute),
            "RMSE": float(squared.sqrt()),
            "RMSE_log": float(squared_log.sqrt()),
            **{f"delta{power}": float(share) for power, share in enumerate(within, start=1)},
        }

    def constant(self) -> ConstantDepth:
        return ConstantDepth()
