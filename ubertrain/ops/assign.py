"""Which boxes stand for which objects, and which of them a loss looks at: on fixed shapes, so that fake tensors suffice."""

from typing import NamedTuple

import torch
from torch import Tensor

from ubertrain.ops.boxes import coverage, iou


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


def assign(candidates: Tensor, truth: Truth, *, positive: float, negative: float, best: bool = False) -> Assignment:
    """Label candidate boxes by their overlap with the objects, as Faster R-CNN does (section 3.1.2).

    Args:
        candidates: (rows, N, 4), or (1, N, 4) for all rows.
        truth: the objects; an image without any has negatives only.
        positive: a candidate is positive from this IoU with some object on.
        negative: and negative below this IoU with every object, unless half of it or more lies within one ignored box.
        best: also positive are the candidates that overlap some object more than all others do (ties: all of them).
    """
    # Image by image, since every candidate with every object of all images at once would be a branch's largest memory.
    rows = [
        _assign(candidates[row % len(candidates)], Truth(*(part[row] for part in truth)), positive, negative, best)
        for row in range(len(truth.boxes))
    ]
    if not rows:
        none = truth.objects.new_empty(0, candidates.shape[1])
        return Assignment(none, none, none.long())
    return Assignment(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


def _assign(candidates: Tensor, truth: Truth, positive: float, negative: float, best: bool) -> Assignment:
    """As `assign`, for one image: every tensor without its first dimension."""
    overlap = iou(candidates, truth.boxes).masked_fill_(~truth.objects, -1.0)
    highest, index = overlap.max(dim=1)
    is_positive = highest >= positive
    if best:
        is_positive = is_positive | ((overlap == overlap.amax(dim=0)) & (overlap > 0)).any(dim=1)
    covered = (coverage(candidates, truth.boxes).masked_fill_(~truth.ignored, 0.0) >= 0.5).any(dim=1)
    return Assignment(is_positive, (highest < negative) & ~is_positive & ~covered, index)


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
