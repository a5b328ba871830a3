"""RoI pooling (Girshick 2015, Fast R-CNN, section 2.1): the largest value of every channel in each of a box's bins.

The cells of a box are whole ones, and its bins are rounded outwards, so that neighbours may share a row or a column (He et al.
2014, SPP-net, whose pyramid is this pooling with several numbers of bins). The gradient goes to where the largest value is.
"""

import torch
from torch import Tensor

from ubertrain.ops.compiled import compiled

_VALUES = 2**21
"""Values that are held at a time while the largest ones are looked for."""


def _bins(low: Tensor, high: Tensor, bins: int, cells: int) -> tuple[Tensor, Tensor]:
    """First cell of each bin (..., bins), and the one after its last, of boxes from `low` to `high` (...) along an axis.

    Both are positions in cells; the box begins and ends with the cells they round to, as in Caffe's layer and torchvision's
    operator (halves go away from 0). What lies outside of the level is cut off.
    """
    first, last = (torch.trunc(side + 0.5 * side.sign()) for side in (low, high))
    step = (last - first + 1).clamp(min=1)[..., None] / bins
    number = torch.arange(bins, device=low.device)
    start, stop = (number * step).floor() + first[..., None], ((number + 1) * step).ceil() + first[..., None]
    return start.clamp(0, cells).long(), stop.clamp(0, cells).long()


def _largest(values: Tensor, at: Tensor, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of `values` (R, C, K, cells) within each window [start, stop), both (R, bins), of the last dimension.

    Returns:
        (R, C, K, bins) the largest, -inf in empty windows, and the entries of `at`, which belong to the values, for them. Of
        equal values the first counts; nan counts as the largest.
    """
    shape = (*values.shape[:3], start.shape[1])
    best, where = values.new_full(shape, -torch.inf), at.new_full(shape, -1)
    for offset in range(int((stop - start).max())):
        place = start + offset
        index = place.clamp(max=values.shape[3] - 1)[:, None, None].expand(shape)
        found = values.gather(3, index)
        better = (place < stop)[:, None, None] & ((found > best) | found.isnan()) & ~best.isnan()
        best = torch.where(better, found, best)
        where = torch.where(better, at.expand_as(values).gather(3, index), where)
    return best, where


@torch.library.custom_op("ubertrain::roi_argmax", mutates_args=())
def roi_argmax(level: Tensor, boxes: Tensor, scale: float, bins: int) -> Tensor:
    """Where in a level the largest value of each bin is.

    An operator of its own, so that fake tensors pass through it. Its own memory is not seen by a meter of tensors: some 32 MiB
    or, where that is more, ten times what one box reads as bins x channels x (height or width of the level).

    Args:
        level: (rows, channels, height, width).
        boxes: (rows, N, 4) in input pixels; one that is not finite lies outside of the level.
        scale: cells per input pixel.
        bins: along a side.

    Returns:
        (rows, channels, N * bins * bins) int64 positions among height * width, row by row; -1 for bins outside of the level.
    """
    rows, channels, height, width = level.shape
    boxes = torch.where(boxes.isfinite().all(dim=-1, keepdim=True), boxes, -1e9)
    (left, right), (top, bottom) = (
        _bins(boxes[..., i] * scale, boxes[..., i + 2] * scale, bins, (width, height)[i]) for i in (0, 1)
    )
    result = boxes.new_full((rows, channels, boxes.shape[1], bins * bins), -1, dtype=torch.long)
    several = max(1, _VALUES // max(1, channels * height * max(bins, 1)))
    for row in range(rows):
        for first in range(0, boxes.shape[1], several):
            some = (row, slice(first, first + several))
            image = level[row].expand(len(left[some]), -1, -1, -1)
            columns = torch.arange(width, device=level.device)
            best, column = _largest(image, columns, left[some], right[some])
            line = torch.arange(height, device=level.device)[:, None] * width
            at = torch.where(column < 0, -1, column + line).transpose(2, 3)
            _, found = _largest(best.transpose(2, 3), at, top[some], bottom[some])
            result[row, :, first : first + several] = found.transpose(2, 3).flatten(2).transpose(0, 1)
    return result.flatten(2)


@roi_argmax.register_fake
def _(level: Tensor, boxes: Tensor, scale: float, bins: int) -> Tensor:
    return boxes.new_empty((level.shape[0], level.shape[1], boxes.shape[1] * bins * bins), dtype=torch.long)


def roi_pool(level: Tensor, boxes: Tensor, stride: int, bins: int = 7) -> Tensor:
    """The largest value of every channel in each bin of every box, 0 in bins outside of the level, nan in boxes not finite.

    Uses torchvision's compiled operator where there is one, unless deterministic algorithms are asked for (its CUDA backward is
    not).

    Args:
        level: (rows, channels, height, width).
        boxes: (rows, N, 4) in input pixels, as many for every image; not differentiated.
        stride: input pixels per cell of `level`.
        bins: along a side.

    Returns:
        (rows, N, channels, bins, bins).
    """
    boxes = boxes.detach()
    operator = None if torch.are_deterministic_algorithms_enabled() else compiled("roi_pool", level.device.type)
    if operator is not None:
        rows = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None, None].expand(*boxes.shape[:2], 1)
        flat = torch.cat([rows, boxes], dim=-1).flatten(0, 1).to(level.dtype)
        values: Tensor = operator(level, flat, 1 / stride, bins, bins)[0]
        return values.unflatten(0, boxes.shape[:2])
    where = roi_argmax(level.detach(), boxes, 1 / stride, bins)
    where = where.unflatten(2, (boxes.shape[1], bins, bins))
    nothing = torch.where(boxes.isfinite().all(dim=-1), 0.0, torch.nan).to(level.dtype)[:, None, :, None, None]
    picked = level.flatten(2).gather(2, where.clamp(min=0).flatten(2)).view_as(where)
    return torch.where(where < 0, nothing, picked).transpose(1, 2)
