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


def _survivors(boxes: Tensor, threshold: float) -> Tensor:
    """Which (N,) of the boxes (N, 4), best first, greedy suppression keeps."""
    overlap = (iou(boxes, boxes) > threshold).triu(diagonal=1)
    keep = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    while True:
        following = ~overlap[keep].any(dim=0)
        if torch.equal(following, keep):
            return keep
        keep = following


def _greedy(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    order = scores.sort(descending=True, stable=True).indices
    kept = order[:0]
    for block in order.split(_BLOCK):
        free = ~(iou(boxes[kept], boxes[block]) > threshold).any(dim=0)
        block = block[free]
        kept = torch.cat([kept, block[_survivors(boxes[block], threshold)]])
    return kept


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes that survive, best first; of equal scores, the earlier box wins.

    Uses torchvision's compiled operator where there is one.

    Args:
        boxes: (N, 4).
        scores: (N,).
        threshold: a box is dropped if its IoU with a better surviving box is larger than this.
    """
    operator = compiled("nms", boxes.device.type)
    return operator(boxes, scores, threshold) if operator else _greedy(boxes, scores, threshold)


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

    An operator of its own, so that fake tensors pass through it. Works image by image: the pairwise overlaps of one image are
    in memory at a time.

    Args:
        boxes: (rows, N, 4).
        scores: (rows, N); an entry of -inf is no box.
        threshold: as for `nms`.
        count: how many.

    Returns:
        (rows, count) int64 indices into N, best first, -1 where there are no more.
    """
    result = boxes.new_full((len(boxes), count), -1, dtype=torch.long)
    for row, (row_boxes, row_scores) in enumerate(zip(boxes, scores, strict=True)):
        (real,) = (row_scores > -torch.inf).nonzero(as_tuple=True)
        kept = real[nms(row_boxes[real], row_scores[real], threshold)][:count]
        result[row, : len(kept)] = kept
    return result


@nms_fixed.register_fake
def _(boxes: Tensor, scores: Tensor, threshold: float, count: int) -> Tensor:
    return boxes.new_empty((len(boxes), count), dtype=torch.long)
