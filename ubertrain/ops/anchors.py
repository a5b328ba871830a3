"""The boxes that a region proposal network judges: some shapes at every cell of a feature level."""

from collections.abc import Sequence

import torch
from torch import Tensor


def anchor_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> list[tuple[float, float]]:
    """(width, height) for every size and ratio, size by size: area size^2, height / width = ratio (Faster R-CNN, 3.1.1)."""
    return [(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in ratios]


def anchors(level: Tensor, stride: int, sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """The anchors of one level, float32 on its device.

    Args:
        level: (..., height, width), of which only the size and the device matter.
        stride: input pixels per cell.
        sizes: square roots of the anchors' areas, in pixels.
        ratios: height / width.

    Returns:
        (height * width * len(sizes) * len(ratios), 4), row by row, the shapes of one cell next to each other; centred on the
        cells' centres, and not cut at the border of the image.
    """
    height, width = level.shape[-2:]
    half = torch.tensor(anchor_shapes(sizes, ratios), device=level.device) / 2
    y = (torch.arange(height, device=level.device) + 0.5) * stride
    x = (torch.arange(width, device=level.device) + 0.5) * stride
    centre = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).view(-1, 1, 2)
    return torch.cat([centre - half, centre + half], dim=-1).view(-1, 4)
