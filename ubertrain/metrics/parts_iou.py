"""How well a division of bodies into parts fits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ubertrain.metrics.mean_iou import Absent, MeanIoU


class PartsIoU(MeanIoU):
    """As `MeanIoU`, over the images that show a part: the protocol of PASCAL-Person-Part as multi-task papers use it (ASTMT).

    An image whose labelled pixels are all background is left out as a whole: what is predicted there costs nothing.

    Args:
        classes: how many classes there are, or their names in the order of their ids.
        background: the id that is no part; it is scored as a class, too.
        absent: as for `MeanIoU`.
    """

    def __init__(self, classes: int | Sequence[str], *, background: int = 0, absent: Absent = "left_out") -> None:
        super().__init__(classes, absent=absent)
        self.background = background

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count the labelled pixels of images with parts; arguments and errors as for `MeanIoU`."""
        shown = ((target != self.background) & (target != 255)).flatten(1).any(dim=1)
        super().update(prediction, torch.where(shown[:, None, None], target, 255))
