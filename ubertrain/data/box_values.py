"""Boxes as files have them, as values of the annotation kind."""

from collections.abc import Sequence

import torch
from torch import Tensor


def box_value(
    corners: Sequence[Sequence[float]], classes: Sequence[int], ignore: Sequence[bool], size: tuple[int, int]
) -> dict[str, Tensor]:
    """A value of `Boxes` for an image of `size` = (height, width), not yet checked.

    Published sets round corners, and count from 1 or from 0: what reaches less than a pixel over the border is set on it, and
    only that, so that boxes of another image are still found out.

    Args:
        corners: x0 y0 x1 y1 of every box, in pixels.
        classes: class ids.
        ignore: True for crowds and difficult objects.
        size: of the image.
    """
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    border = torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float32)
    boxes = torch.where((boxes < 0) & (boxes >= -1), 0.0, boxes)
    boxes = torch.where((boxes > border) & (boxes <= border + 1), border, boxes)
    return {
        "boxes": boxes,
        "classes": torch.tensor(classes, dtype=torch.int64),
        "ignore": torch.tensor(ignore, dtype=torch.bool),
    }
