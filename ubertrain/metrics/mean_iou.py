"""How well a segmentation into classes fits."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics.constants import MajorityClass
from ubertrain.metrics.sums import SumMetric, ratio
from ubertrain.ops.pixels import to_size


class MeanIoU(SumMetric):
    """Intersection over union of each class, from one confusion table over all labelled pixels of the set.

    - `mIoU`: the mean over the classes that occur in the truth, background included. A class that the truth never shows has no
      IoU of its own; where it is predicted it costs the class whose pixels it takes. (Codes that count such a class as 0, or as
      absent only if it is not predicted either, report less on small sets; on the full benchmarks every class occurs.)
    - `mean_accuracy`: the mean over the same classes of the share of their pixels that is found.
    - `pixel_accuracy`: the share of labelled pixels that is right.

    All are fractions; see Long et al. 2015 (FCN), section 5.

    Args:
        classes: how many classes there are, or their names in the order of their ids.
    """

    primary: ClassVar[str] = "mIoU"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, classes: int | Sequence[str]) -> None:
        self.names = tuple(str(i) for i in range(classes)) if isinstance(classes, int) else tuple(classes)
        super().__init__(len(self.names), len(self.names))

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count the labelled pixels.

        Args:
            prediction: (rows, classes, height, width), the largest value names the class.
            target: (rows, height, width) int64, 255 = ignore.

        Raises:
            DataError: a label that is no class.
        """
        count = len(self.names)
        predicted = to_size(prediction, target.shape[-2:]).argmax(dim=1)
        truth = target[target != 255]
        if truth.numel() and not 0 <= int(truth.min()) <= int(truth.max()) < count:
            raise DataError(f"class ids {int(truth.min())} to {int(truth.max())} in the labels; the task has {count} classes")
        pairs = truth * count + predicted[target != 255]
        self.add(torch.bincount(pairs, minlength=count**2).view(count, count))

    def compute(self) -> dict[str, float]:
        hits, truth = self.sums.diagonal(), self.sums.sum(dim=1)
        return {
            "mIoU": float(self._ious().nanmean()),
            "mean_accuracy": float(ratio(hits, truth).nanmean()),
            "pixel_accuracy": float(ratio(hits.sum(), truth.sum())),
        }

    def class_iou(self) -> dict[str, float]:
        """IoU of each class by name; nan for a class that the truth never shows."""
        return dict(zip(self.names, self._ious().tolist(), strict=True))

    def constant(self) -> MajorityClass:
        return MajorityClass(len(self.names))

    def _ious(self) -> Tensor:
        """IoU per class, nan where the truth never shows it."""
        hits, truth, predicted = self.sums.diagonal(), self.sums.sum(dim=1), self.sums.sum(dim=0)
        return torch.where(truth > 0, ratio(hits, truth + predicted - hits), torch.nan)
