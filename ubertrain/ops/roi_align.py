"""RoI align (He et al. 2017, Mask R-CNN, section 3): a box's features on a fixed grid, by bilinear samples, averaged in bins.

Two forms of one sum, both deterministic (nothing is scattered), of which the faster one on a CPU is taken:

- Bilinear weights, the rule at the border and the average over a bin's regular samples are products of a factor for y and a
  factor for x. A box's output is therefore `Wy @ level @ Wx.T` with two small matrices per box: best for small levels.
- A bin is a weighted sum of the cells under its samples, and torch has a kernel for such sums over a table, `embedding_bag`.
  Nothing between level and result is as large as either, and levels of any size are rows of one table, so that boxes may read
  different levels without a loop: best for large levels, by far.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.ops.compiled import compiled

_ENTRY = 500
"""Multiplications in a matrix product that take as long as one entry of a weighted sum, its part of the backward included."""


def _axis_weights(start: Tensor, length: Tensor, bins: int, samples: int, cells: int) -> Tensor:
    """What each cell of one axis contributes to each bin, (..., bins, cells); arguments as for `_shares`."""
    offsets = (torch.arange(bins * samples, device=start.device, dtype=start.dtype) + 0.5) / (bins * samples)
    at = start[..., None] + length[..., None] * offsets
    inside = (at >= -1) & (at <= cells)
    distance = (at.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=start.device, dtype=start.dtype)).abs()
    weights = (1 - distance).clamp(min=0) * inside[..., None]
    return weights.unflatten(-2, (bins, samples)).mean(dim=-2)


def _separable(level: Tensor, boxes: Tensor, scale: float, bins: int, samples: int) -> Tensor:
    """As `roi_align`, by matrix products."""
    low, high = boxes[..., :2] * scale - 0.5, boxes[..., 2:] * scale - 0.5
    across, down = (
        _axis_weights(low[..., axis], high[..., axis] - low[..., axis], bins, samples, level.shape[-1 - axis]).to(level.dtype)
        for axis in (0, 1)
    )
    rows, channels, height, width = level.shape
    table = level.permute(0, 2, 3, 1).reshape(rows, height, width * channels)
    partial = (down.flatten(1, 2) @ table).view(*down.shape[:3], width, channels)
    return (across[:, :, None] @ partial).permute(0, 1, 4, 2, 3)


class _Shares(NamedTuple):
    """What contributes to each bin along one axis: cells (..., bins, 2 * samples) int64 and their weights."""

    cells: Tensor
    weights: Tensor


def _shares(start: Tensor, length: Tensor, cells: Tensor, bins: int, samples: int) -> _Shares:
    """The cells under the samples of one axis.

    Args:
        start, length: (...) of the boxes along this axis in cells, where cell i is centred on i.
        cells: (...), how many there are.
        samples: per bin, in the middle of `samples` equal parts of it.
    """
    offsets = (torch.arange(bins * samples, device=start.device, dtype=start.dtype) + 0.5) / (bins * samples)
    at, last = start[..., None] + length[..., None] * offsets, cells[..., None] - 1
    inside = (at >= -1) & (at <= last + 1)
    at = at.clamp(min=0).minimum(last)
    low = at.floor()
    above, low = at - low, low.nan_to_num(0.0)  # a box that is not finite has weights that are not
    weights = torch.stack([1 - above, above], dim=-1) * (inside[..., None] / samples)
    pair = torch.stack([low, torch.minimum(low + 1, last)], dim=-1).long()
    return _Shares(*(part.unflatten(-2, (bins, samples)).flatten(-2) for part in (pair, weights)))


def _gathered(
    levels: Sequence[Tensor], boxes: Tensor, strides: Sequence[int], which: Tensor | None, bins: int, samples: int
) -> Tensor:
    """As `roi_align_levels`, by weighted sums; without `which`, from the first level."""
    rows, count, channels = len(boxes), boxes.shape[1], levels[0].shape[1]
    which = boxes.new_zeros(rows, count, dtype=torch.long) if which is None else which
    sides = boxes.new_tensor([(level.shape[-1], level.shape[-2]) for level in levels])[which]
    areas = [level.shape[-2] * level.shape[-1] for level in levels]
    before = which.new_tensor([sum(areas[:i]) for i in range(len(areas))])[which]
    corners = boxes / boxes.new_tensor(strides)[which][..., None] - 0.5
    extent = corners[..., 2:] - corners[..., :2]
    across, down = (_shares(corners[..., i], extent[..., i], sides[..., i], bins, samples) for i in (0, 1))
    image = torch.arange(rows, device=boxes.device)[:, None] * sum(areas)
    first, width = (image + before)[..., None, None], sides[..., 0].long()[..., None, None]
    cells = (first + down.cells * width)[:, :, :, None, :, None] + across.cells[:, :, None, :, None, :]
    weights = down.weights[:, :, :, None, :, None] * across.weights[:, :, None, :, None, :]
    table = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1).reshape(-1, channels)
    of_a_bin = 4 * samples**2
    sums = F.embedding_bag(
        cells.reshape(-1, of_a_bin), table, mode="sum", per_sample_weights=weights.reshape(-1, of_a_bin).to(table.dtype)
    )
    return sums.view(rows, count, bins, bins, channels).permute(0, 1, 4, 2, 3)


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
        _, channels, height, width = level.shape
        if width * channels * (height + bins) <= _ENTRY * bins * 4 * samples**2:
            return _separable(level, boxes, 1 / stride, bins, samples)
        return _gathered([level], boxes, [stride], None, bins, samples)
    rows = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None, None].expand(*boxes.shape[:2], 1)
    flat = torch.cat([rows, boxes], dim=-1).flatten(0, 1).to(level.dtype)
    return operator(level, flat, 1 / stride, bins, bins, samples, True).unflatten(0, boxes.shape[:2])


def roi_align_levels(
    levels: Sequence[Tensor], boxes: Tensor, strides: Sequence[int], which: Tensor, bins: int = 7, samples: int = 2
) -> Tensor:
    """As `roi_align`, every box from a level of its own (Lin et al. 2017, Feature Pyramid Networks, section 4.2).

    Args:
        levels: (rows, channels, height, width) each.
        boxes: (rows, N, 4) in input pixels; not differentiated.
        strides: input pixels per cell of each level.
        which: (rows, N) int64, the number of each box's level.
        bins, samples: as for `roi_align`.

    Returns:
        (rows, N, channels, bins, bins).
    """
    return _gathered(levels, boxes.detach(), strides, which, bins, samples)
