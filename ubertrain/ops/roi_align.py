"""RoI align (He et al. 2017, Mask R-CNN, section 3): a box's features on a fixed grid, by bilinear samples, averaged in bins.

Bilinear weights, the rule at the border and the average over a bin's regular samples are all products of a factor for y and a
factor for x. A box's output is therefore `Wy @ level @ Wx.T` with two small matrices per box: plain matrix products, which
are fast on every device, differentiable any number of times, and deterministic (nothing is scattered).
"""

import torch
from torch import Tensor

from ubertrain.ops.compiled import compiled


def _axis_weights(start: Tensor, length: Tensor, bins: int, samples: int, cells: int) -> Tensor:
    """What each cell of one axis contributes to each bin: (..., bins, cells).

    Args:
        start, length: (...) of the boxes along this axis in cells, where cell i is centred on i.
        samples: per bin, in the middle of `samples` equal parts of it.
    """
    offsets = (torch.arange(bins * samples, device=start.device, dtype=start.dtype) + 0.5) / (bins * samples)
    at = start[..., None] + length[..., None] * offsets
    inside = (at >= -1) & (at <= cells)
    distance = (at.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=start.device, dtype=start.dtype)).abs()
    weights = (1 - distance).clamp(min=0) * inside[..., None]
    return weights.unflatten(-2, (bins, samples)).mean(dim=-2)


def _separable(level: Tensor, boxes: Tensor, scale: float, bins: int, samples: int) -> Tensor:
    low, high = boxes[..., :2] * scale - 0.5, boxes[..., 2:] * scale - 0.5
    across, down = (
        _axis_weights(low[..., axis], high[..., axis] - low[..., axis], bins, samples, level.shape[-1 - axis]).to(level.dtype)
        for axis in (0, 1)
    )
    rows, channels, height, width = level.shape
    table = level.permute(0, 2, 3, 1).reshape(rows, height, width * channels)
    partial = (down.flatten(1, 2) @ table).view(*down.shape[:3], width, channels)
    return (across[:, :, None] @ partial).permute(0, 1, 4, 2, 3)


def roi_align(level: Tensor, boxes: Tensor, stride: int, bins: int = 7, samples: int = 2) -> Tensor:
    """The features of every box on a `bins` x `bins` grid; `aligned=True` in the words of Detectron2 and torchvision.

    Samples up to one cell outside the level read its border, those farther out read 0. Uses torchvision's compiled operator
    where there is one, unless deterministic algorithms are asked for (its CUDA backward is not).

    Args:
        level: (rows, channels, height, width).
        boxes: (rows, N, 4) in input pixels, as many for every image; not differentiated.
        stride: input pixels per cell of `level`.
        samples: per bin along a side.

    Returns:
        (rows, N, channels, bins, bins).
    """
    boxes = boxes.detach()
    operator = None if torch.are_deterministic_algorithms_enabled() else compiled("roi_align", level.device.type)
    if operator is None:
        return _separable(level, boxes, 1 / stride, bins, samples)
    rows = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None, None].expand(*boxes.shape[:2], 1)
    flat = torch.cat([rows, boxes], dim=-1).flatten(0, 1).to(level.dtype)
    return operator(level, flat, 1 / stride, bins, bins, samples, True).unflatten(0, boxes.shape[:2])
