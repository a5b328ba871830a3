"""Which boxes stand for which objects, and which of them a loss looks at: on fixed shapes, so that fake tensors suffice."""

from typing import NamedTuple

import torch
from torch import Tensor

from ubertrain.ops.boxes import coverage, iou

_PAIRS = 2**18
"""Candidates times objects that are compared at a time."""


class Truth(NamedTuple):
    """The collated boxes of some images.

    Attributes:
        boxes: (rows, M, 4).
        classes: (rows, M) int64, -1 for padding.
        ignore: (rows, M) bool: neither an object to find nor background (a crowd, a difficult object).
    """

    boxes: Tensor
    classes: Tensor
    ignore: Tensor

    @property
    def objects(self) -> Tensor:
        """(rows, M) bool: the boxes to be found."""
        return (self.classes >= 0) & ~self.ignore

    @property
    def ignored(self) -> Tensor:
        """(rows, M) bool: the boxes whose inside counts as nothing."""
        return (self.classes >= 0) & self.ignore


class Assignment(NamedTuple):
    """What each candidate is.

    Attributes:
        positive, negative: (rows, N) bool; both False where the candidate counts as nothing.
        truth: (rows, N) int64, the object that overlaps the candidate most; meaningful where positive.
    """

    positive: Tensor
    negative: Tensor
    truth: Tensor


def assign(
    candidates: Tensor, truth: Truth, *, positive: float, negative: float, least: float = 0.0, best: bool = False
) -> Assignment:
    """Label candidate boxes by their overlap with the objects, as Faster R-CNN does (section 3.1.2).

    Args:
        candidates: (rows, N, 4), or (1, N, 4) for all rows; not differentiated.
        truth: the objects; an image without any has negatives only.
        positive: a candidate is positive from this IoU with some object on.
        negative: and negative below this IoU with every object, unless half of it or more lies within one ignored box.
        least: where there are objects, a negative overlaps one by this IoU or more (Fast R-CNN's hard negatives, section 2.3).
        best: also positive are the candidates that overlap some object more than all others do (ties: all of them).
    """
    return Assignment(*_assign(candidates.detach(), *truth, positive, negative, least, best))


@torch.library.custom_op("ubertrain::assign", mutates_args=())
def _assign(
    candidates: Tensor,
    boxes: Tensor,
    classes: Tensor,
    ignore: Tensor,
    positive: float,
    negative: float,
    least: float,
    best: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `assign`, for `Truth(boxes, classes, ignore)`: positive, negative and truth.

    An operator of its own: one operation on fake tensors, however many images there are, and the overlaps of every candidate
    with every object, which would be a branch's largest memory, never stand all at once. What it needs itself, which a meter
    of tensors does not see, is about 16 MiB: a quarter of a million pairs are compared at a time.
    """
    candidates = candidates.expand(len(boxes), -1, -1)
    truth = Truth(boxes, classes, ignore)
    count = max(1, _PAIRS // max(1, boxes.shape[1]))
    rows = max(1, count // max(1, candidates.shape[1]))
    parts = []
    for start in range(0, len(boxes), rows):
        some = Truth(*(part[start : start + rows] for part in truth))
        pieces = candidates[start : start + rows].split(count, dim=1)
        tops = torch.stack([_overlap(piece, some).amax(dim=1) for piece in pieces]).amax(dim=0) if best and pieces else None
        labels = [_label(piece, some, tops, positive, negative, least) for piece in pieces]
        parts.append([torch.cat(columns, dim=1) for columns in zip(*labels, strict=True)])
    if not parts:
        none = ignore.new_empty(0, candidates.shape[1])
        return none, none.clone(), none.long()
    is_positive, is_negative, index = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return is_positive, is_negative, index


@_assign.register_fake
def _(
    candidates: Tensor,
    boxes: Tensor,
    classes: Tensor,
    ignore: Tensor,
    positive: float,
    negative: float,
    least: float,
    best: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (boxes.shape[0], candidates.shape[1])
    return ignore.new_empty(shape), ignore.new_empty(shape), ignore.new_empty(shape, dtype=torch.long)


def _overlap(candidates: Tensor, truth: Truth) -> Tensor:
    """IoU (rows, N, M), -1 with what is no object."""
    return iou(candidates, truth.boxes).masked_fill_(~truth.objects[:, None], -1.0)


def _label(
    candidates: Tensor, truth: Truth, tops: Tensor | None, positive: float, negative: float, least: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Positive, negative and truth of some candidates; `tops` (rows, M) are the highest overlaps of all, if those count."""
    overlap = _overlap(candidates, truth)
    highest, index = overlap.max(dim=2)
    is_positive = highest >= positive
    if tops is not None:
        is_positive = is_positive | ((overlap == tops[:, None]) & (overlap > 0)).any(dim=2)
    covered = (coverage(candidates, truth.boxes).masked_fill_(~truth.ignored[:, None], 0.0) >= 0.5).any(dim=2)
    hard = (highest >= least) | ~truth.objects.any(dim=1, keepdim=True)
    return is_positive, (highest < negative) & hard & ~is_positive & ~covered, index


def sample(labels: Assignment, chance: Tensor, count: int, most_positive: int) -> tuple[Tensor, Tensor]:
    """Draw `count` candidates of each image: at most `most_positive` positive ones, the others negative.

    Args:
        labels: what the candidates are.
        chance: (rows, N) random numbers in [0, 1); the candidates with the largest are drawn.

    Returns:
        (rows, min(count, N)) int64 indices, and a bool of the same shape that is False where an image has fewer candidates.
    """
    total = chance.shape[1]
    luck, first = torch.where(labels.positive, chance, -1.0).topk(min(most_positive, total), dim=1)
    drawn = torch.zeros_like(labels.positive).scatter(1, first, luck >= 0)
    order = torch.where(drawn, 2.0, torch.where(labels.negative, chance, -1.0))
    luck, index = order.topk(min(count, total), dim=1)
    return index, luck >= 0
