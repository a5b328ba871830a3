"""How well predicted boundaries of classes agree with the drawn ones."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics.boundary_counts import boundary_counts, steps
from ubertrain.metrics.boundary_f import box, probabilities, with_best
from ubertrain.metrics.boundary_scores import area, average_precision, best, points, shares
from ubertrain.metrics.constants import Hatching
from ubertrain.metrics.covering import covering
from ubertrain.metrics.sums import SumMetric
from ubertrain.ops.matching import within
from ubertrain.ops.ridges import ridges

Leniency = Literal["sbd", "none"]
"""What is not held against a prediction.

"sbd", the published code of SBD (Hariharan et al., ICCV 2011): predicted pixels inside of an object of their class, farther
from its boundary than the tolerance, are taken away; images that do not show a class do not count for it. "none", as since SEAL
(Yu et al., ECCV 2018): every predicted pixel counts in every image.
"""

_NAMES = ("F", "AP", "area", "precision", "recall", "threshold")


class SemanticBoundaryF(SumMetric):
    """The SBD benchmark: for each class, boundaries matched one to one as in `BoundaryF`, one drawing, no ridges by default.

    - `MF`: the mean over classes of the largest F of the whole set at one threshold for the class.
    - `AP`: the mean over classes of the average precision (`average_precision`).
    - `OIS`: the mean over classes of F with the best threshold of each image.
    - `area`: the mean over classes of the area under the curve (`area`).

    Classes without a boundary in the truth are left out of the means; without any, all is nan. On the benchmark's own fixture
    the counts differ from its MATLAB code by one pixel at most, and the scores by less than 0.0002.

    Args:
        names: of the classes.
        tolerance: as a share of the diagonal of the known part of the image: 0.02 for SBD, 0.0035 for Cityscapes.
        thresholds: how many; the benchmark has 99.
        nms: whether to reduce predictions to their ridges first.
        thin: whether to thin what a threshold leaves, the "thin" protocol; "raw" is without.
        leniency: see `Leniency`.
    """

    primary: ClassVar[str] = "MF"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, names: Sequence[str], *, tolerance: float = 0.02, thresholds: int = 99, nms: bool = False,
                 thin: bool = True, leniency: Leniency = "sbd") -> None:  # fmt: skip
        super().__init__(len(names), 4, thresholds + 1)  # the last column: at each image's best threshold
        self.names, self.tolerance, self.thresholds = tuple(names), tolerance, steps(thresholds)
        self.nms, self.thin, self.leniency = nms, thin, leniency

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count matches.

        Args:
            prediction: (rows, classes, height, width), probability that a boundary of the class runs through the pixel.
            target: (rows, classes, height, width) uint8: 0, 1 = boundary, 2 = inside, 255 = unknown.

        Raises:
            DataError: other classes than the metric's, a prediction of another size, or a probability at a known pixel that is
                not from 0 to 1, nan included.
        """
        if target.shape[1] != len(self.names):
            raise DataError(f"{target.shape[1]} planes of semantic edges in the labels; the task has {len(self.names)} classes")
        strength = probabilities(covering(prediction, target, channels=(len(self.names),)), target != 255)
        for row, planes in zip(strength, target.cpu(), strict=True):
            self.add(torch.stack([torch.from_numpy(self._counts(*pair)) for pair in zip(row, planes, strict=True)]))

    def compute(self) -> dict[str, float]:
        rows = [scores for scores in self.by_class().values() if not math.isnan(scores["F"])]
        own = [float(shares(counts[:, -1:])[0][0]) for counts in self.sums.numpy() if counts[2, -1]]
        means = {name: _mean([scores[name] for scores in rows]) for name in ("F", "AP", "area")}
        return {"MF": means["F"], "AP": means["AP"], "OIS": _mean(own), "area": means["area"]}

    def by_class(self) -> Mapping[str, Mapping[str, float]]:
        """F, AP, area, and precision, recall and threshold at the best F, of each class; nan if the truth never shows it."""
        table = {}
        for name, counts in zip(self.names, self.sums.numpy()[..., :-1], strict=True):
            if not counts[2, 0]:
                table[name] = dict.fromkeys(_NAMES, math.nan)
                continue
            top = best(counts, self.thresholds)
            values = (top.f, average_precision(counts), area(counts), top.precision, top.recall, top.threshold)
            table[name] = dict(zip(_NAMES, values, strict=True))
        return table

    def curve(self, index: int = 0) -> tuple[dict[str, float], ...]:
        """Threshold, F, precision and recall of one class at every threshold, the lowest first."""
        return points(self.sums[index].numpy()[:, :-1], self.thresholds)

    def constant(self) -> Hatching:
        return Hatching(len(self.names))

    def _counts(self, strength: Tensor, plane: Tensor) -> np.ndarray:
        """One image's and one class's part of the sums."""
        known = plane != 255
        part = box(known)
        plane, strength = plane[part], strength[part].double()
        drawn, inside = (plane == 1).numpy(), (plane == 2).numpy()
        lenient = self.leniency == "sbd"
        if lenient and not drawn.any():
            return np.zeros((4, len(self.thresholds) + 1))
        if self.nms:
            strength = torch.where(known[part], ridges(strength[None])[0], 0.0)
        radius = self.tolerance * math.hypot(*drawn.shape)
        excused = inside & ~within(drawn, radius) if lenient else None
        planes = drawn[None]
        return with_best(boundary_counts(strength.numpy(), planes, radius, self.thresholds, thin=self.thin, excused=excused))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
