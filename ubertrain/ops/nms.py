"""Greedy non-maximum suppression: take the best box, drop what overlaps it, repeat.

The loop over boxes is replaced by an iteration over blocks of boxes that gives exactly the same result. With boxes in order
of score, `keep[j] = not any(keep[i] and overlaps(i, j) for i < j)` has one solution, the greedy one. Starting from all kept,
each application of this equation makes at least one more leading entry final, so the iteration stands still only at that
solution; it takes as many turns as the longest chain of boxes that suppress each other, which is a few.
"""

import torch
from torch import Tensor

from ubertrain.ops.boxes import iou
from ubertrain.ops.compiled import compiled

_BLOCK = 1024
_PAIRS = 2**20
"""Pairs of boxes that are compared at a time."""


def _survivors(boxes: Tensor, free: Tensor, threshold: float) -> Tensor:
    """Which (rows, N) of the `free` (rows, N) ones among boxes (rows, N, 4), best first, greedy suppression keeps."""
    overlap = (iou(boxes, boxes) > threshold).tril(diagonal=-1)  # the better box along the last dimension
    keep = free
    while True:
        following = free & ~(overlap & keep[..., None, :]).any(dim=-1)
        if torch.equal(following, keep):
            return keep
        keep = following


def _greedy(boxes: Tensor, scores: Tensor, real: Tensor, threshold: float, count: int) -> Tensor:
    """(rows, count) indices of the best survivors among the `real` (rows, N) boxes, padded with -1."""
    order = scores.sort(descending=True, stable=True, dim=1).indices
    boxes = boxes.gather(1, order[..., None].expand_as(boxes))
    real = real.gather(1, order)
    kept = order.new_full((len(boxes), count + 1), -1)  # the last column takes what is too much
    best = boxes.new_zeros(len(boxes), count + 1, 4)
    filled = order.new_zeros(len(boxes), 1)
    for start in range(0, boxes.shape[1], _BLOCK):
        some = slice(start, start + _BLOCK)
        standing = kept[:, : min(int(filled.max()), count)] >= 0
        covered = (iou(best[:, : standing.shape[1]], boxes[:, some]) > threshold) & standing[..., None]
        chosen = _survivors(boxes[:, some], real[:, some] & ~covered.any(dim=1), threshold)
        place = torch.where(chosen, filled + chosen.cumsum(dim=1) - 1, count).clamp(max=count)
        kept.scatter_(1, place, order[:, some])
        best.scatter_(1, place[..., None].expand(*place.shape, 4), boxes[:, some])
        filled += chosen.sum(dim=1, keepdim=True)
        if int(filled.min()) >= count:
            break
    return kept[:, :count]


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes that survive, best first; of equal scores, the earlier box wins.

    Uses torchvision's compiled operator where there is one.

    Args:
        boxes: (N, 4).
        scores: (N,).
        threshold: a box is dropped if its IoU with a better surviving box is larger than this.
    """
    if operator := compiled("nms", boxes.device.type):
        return operator(boxes, scores, threshold)
    kept = _greedy(boxes[None], scores[None], torch.ones_like(scores, dtype=torch.bool)[None], threshold, len(boxes))[0]
    return kept[kept >= 0]


def apart(boxes: Tensor, classes: Tensor) -> Tensor:
    """The boxes (..., N, 4), float64, moved so that boxes of different `classes` (..., N) never meet.

    Suppression among the moved boxes is suppression within each class. In float64 the shift costs no precision.
    """
    boxes = boxes.double()
    span = boxes.amax(dim=(-2, -1), keepdim=True) - boxes.amin(dim=(-2, -1), keepdim=True) + 1
    return boxes + classes[..., None] * span


def batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """As `nms`, within each of the `classes` (N,): indices of all survivors, best first."""
    return nms(apart(boxes, classes), scores, threshold) if len(boxes) else torch.empty_like(classes)


@torch.library.custom_op("ubertrain::nms_fixed", mutates_args=())
def nms_fixed(boxes: Tensor, scores: Tensor, threshold: float, count: int) -> Tensor:
    """The best `count` survivors of each image, a shape that does not depend on values.

    An operator of its own, so that fake tensors pass through it, in one operation for all images. Its own memory is not seen
    by a meter of tensors: about 16 MiB on top of a sorted copy of the boxes, since a million pairs are compared at a time, and
    2000 by 1024 where so many are kept.

    Args:
        boxes: (rows, N, 4).
        scores: (rows, N); an entry of -inf or nan is no box.
        threshold: as for `nms`.
        count: how many.

    Returns:
        (rows, count) int64 indices into N, best first, -1 where there are no more.
    """
    real = scores > -torch.inf
    if compiled("nms", boxes.device.type):
        kept = [_padded(boxes[row], scores[row], real[row], threshold, count) for row in range(len(boxes))]
    else:
        rows = max(1, _PAIRS // max(1, min(boxes.shape[1], _BLOCK)) ** 2)
        parts = zip(boxes.split(rows), scores.split(rows), real.split(rows), strict=True)
        kept = [row for part in parts if len(part[0]) for row in _greedy(*part, threshold, count)]
    return torch.stack(kept) if kept else boxes.new_empty((0, count), dtype=torch.long)


@nms_fixed.register_fake
def _(boxes: Tensor, scores: Tensor, threshold: float, count: int) -> Tensor:
    return boxes.new_empty((len(boxes), count), dtype=torch.long)


def _padded(boxes: Tensor, scores: Tensor, real: Tensor, threshold: float, count: int) -> Tensor:
    """One image's best survivors by the compiled operator."""
    (index,) = real.nonzero(as_tuple=True)
    kept = index[nms(boxes[index], scores[index], threshold)][:count]
    return torch.cat([kept, kept.new_full((count - len(kept),), -1)])
