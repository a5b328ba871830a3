"""How well a segmentation into classes fits."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics.constants import MajorityClass
from ubertrain.metrics.covering import covering
from ubertrain.metrics.sums import SumMetric, ratio

Absent = Literal["left_out", "if_predicted", "zero"]
"""What a class counts in mean IoU that the truth never shows: see `MeanIoU`."""

_IGNORE = 255


class MeanIoU(SumMetric):
    """FCN's four scores (Long et al. 2015, section 5), from one confusion table over all labelled pixels of the set.

    - `mIoU`: the mean intersection over union of the classes, background included.
    - `mean_accuracy`: the mean over the classes that occur in the truth of the share of their pixels that is found.
    - `pixel_accuracy`: the share of labelled pixels that is right.
    - `frequency_weighted_iou`: the mean IoU in which every class weighs as many pixels as the truth shows of it.

    All are fractions. On the full benchmarks every class occurs. On a small set conventions differ about the IoU of a class
    that the truth never shows:

    - "left_out": it has none. Where it is predicted it costs the class whose pixels it takes.
    - "if_predicted": 0 if it is predicted anywhere, else none; this is what FCN's code does.
    - "zero": always 0, the strictest.

    Args:
        classes: how many classes there are, or their names in the order of their ids.
        absent: which of these.
    """

    primary: ClassVar[str] = "mIoU"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, classes: int | Sequence[str], *, absent: Absent = "left_out") -> None:
        self.names = tuple(str(i) for i in range(classes)) if isinstance(classes, int) else tuple(classes)
        self.absent = absent
        super().__init__(len(self.names), len(self.names))

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count the labelled pixels.

        Args:
            prediction: (rows, classes, height, width), the largest value names the class.
            target: (rows, height, width) int64, 255 = ignore.

        Raises:
            DataError: a prediction of another size, nan in it at a labelled pixel, or a label that is no class.
        """
        largest, predicted = covering(prediction, target, channels=(len(self.names),)).max(dim=1)
        wrong = (largest.isnan() & (target != _IGNORE)).flatten(1).sum(dim=1)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(f"the prediction of image {row} of the batch is nan at {int(wrong[row])} of its labelled pixels")
        self.count(predicted, target)

    def count(self, predicted: Tensor, target: Tensor) -> None:
        """Count the labelled pixels of predictions that name the classes.

        Args:
            predicted: class ids of any integer dtype, of the shape of `target`.
            target: class ids of any integer dtype, 255 = ignore.

        Raises:
            DataError: shapes that differ, or, at a labelled pixel, an id that is no class.
        """
        count = len(self.names)
        if predicted.shape != target.shape:
            raise DataError(f"a prediction of size {tuple(predicted.shape)} for labels of size {tuple(target.shape)}")
        known = target != _IGNORE
        truth, answer = (_ids(values[known], what, count) for values, what in ((target, "labels"), (predicted, "prediction")))
        self.add(torch.bincount(truth * count + answer, minlength=count**2).view(count, count))

    def compute(self) -> dict[str, float]:
        hits, truth = self.sums.diagonal(), self.sums.sum(dim=1)
        ious = self._ious()
        return {
            "mIoU": float(self._counted().nanmean()),
            "mean_accuracy": float(ratio(hits, truth).nanmean()),
            "pixel_accuracy": float(ratio(hits.sum(), truth.sum())),
            "frequency_weighted_iou": float(ratio((truth * ious.nan_to_num()).sum(), truth.sum())),
        }

    def class_iou(self) -> dict[str, float]:
        """IoU of each class by name; nan for a class that the truth never shows, unless `absent` says that it counts 0."""
        return dict(zip(self.names, self._counted().tolist(), strict=True))

    def constant(self) -> MajorityClass:
        return MajorityClass(len(self.names))

    def _ious(self) -> Tensor:
        """IoU per class, nan where the truth never shows it."""
        hits, truth, predicted = self.sums.diagonal(), self.sums.sum(dim=1), self.sums.sum(dim=0)
        return torch.where(truth > 0, ratio(hits, truth + predicted - hits), torch.nan)

    def _counted(self) -> Tensor:
        """IoU per class as `absent` counts it, nan for a class that has none."""
        ious, predicted = self._ious(), self.sums.sum(dim=0)
        if self.absent == "left_out" or not self.sums.any():
            return ious
        return torch.where(ious.isnan() & ((predicted > 0) | (self.absent == "zero")), 0.0, ious)


def _ids(values: Tensor, what: str, count: int) -> Tensor:
    """Ids as int64, once it is clear that each is one of `count` classes."""
    ids = values.long()
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        given = f"class ids {int(ids.min())} to {int(ids.max())} in the {what}"
        raise DataError(f"{given}; there are {count} classes, 0 to {count - 1}, and 255 in labels stands for none")
    return ids
