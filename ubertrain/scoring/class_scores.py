"""Scores of class maps that may leave pixels without an answer."""

from collections.abc import Mapping, Sequence

import torch

from ubertrain.metrics.mean_iou import Absent, MeanIoU
from ubertrain.metrics.sums import ratio


class ClassScores(MeanIoU):
    """As `MeanIoU`, from maps of ids; a labelled pixel for which no class is predicted counts as wrong.

    - `missing`: the share of labelled pixels without an answer.

    Args:
        classes: their names in the order of their ids.
        absent: see `MeanIoU`.
    """

    def __init__(self, classes: Sequence[str], *, absent: Absent = "left_out") -> None:
        super().__init__((*classes, "no class"), absent=absent)

    def compute(self) -> dict[str, float]:
        ious = torch.tensor(list(self.class_iou().values()), dtype=torch.float64)
        missing = ratio(self.sums[:, -1].sum(), self.sums.sum())
        return {**super().compute(), "mIoU": float(ious.nanmean()), "missing": float(missing)}

    def class_iou(self) -> dict[str, float]:
        *classes, _ = super().class_iou().items()
        return dict(classes)

    def by_class(self) -> Mapping[str, Mapping[str, float]]:
        """IoU, accuracy (the share of its pixels that is found) and share of the labelled pixels, of each class."""
        truth = self.sums.sum(dim=1)
        found, shares = ratio(self.sums.diagonal(), truth).tolist(), ratio(truth, truth.sum()).tolist()
        return {
            name: {"IoU": iou, "accuracy": accuracy, "share": share}
            for (name, iou), accuracy, share in zip(self.class_iou().items(), found[:-1], shares[:-1], strict=True)
        }
