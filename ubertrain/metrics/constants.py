"""Answers that never look at the image: what a score must be compared with before it means anything."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Constant(ABC):
    """The same answer for every image, the best one that the training labels suggest.

    `observe` the labels of the training set batch by batch; `prediction` then stands in for a head's, so that the task's own
    metric scores it on the validation set.
    """

    @abstractmethod
    def observe(self, target: Any) -> None:
        """Add a collated annotation."""

    @abstractmethod
    def prediction(self, target: Any) -> Any:
        """The answer for the images that `target` labels, in the form of the head's prediction in eval mode."""


class MajorityClass(Constant):
    """The class with the most pixels (class 0 before any was seen), as scores (rows, classes, height, width) of 0 and 1."""

    def __init__(self, classes: int) -> None:
        self._pixels = torch.zeros(classes, dtype=torch.float64)

    def observe(self, target: Tensor) -> None:
        self._pixels += torch.bincount(target[target != 255], minlength=len(self._pixels)).cpu()

    def prediction(self, target: Tensor) -> Tensor:
        scores = F.one_hot(self._pixels.argmax(), len(self._pixels)).to(target.device, torch.float32)
        return scores.view(1, -1, 1, 1).expand(len(target), -1, *target.shape[-2:])


_NEAREST, _FARTHEST, _DEPTH_BINS = 1e-2, 1e3, 2000


class ConstantDepth(Constant):
    """The depth with the least mean relative error: the median of the readings, each weighted by 1 / its depth.

    It minimises sum |c - t| / t over c. Read from a histogram of 2000 equal steps of log depth between 1 cm and 1 km, so within
    0.6 %. Before any reading was seen: 1 metre.
    """

    def __init__(self) -> None:
        self._weights = torch.zeros(_DEPTH_BINS, dtype=torch.float64)

    def observe(self, target: Tensor) -> None:
        depth = target[target > 0].double()
        position = (depth / _NEAREST).log() / math.log(_FARTHEST / _NEAREST)
        bins = (position * _DEPTH_BINS).long().clamp(0, _DEPTH_BINS - 1)
        self._weights += torch.bincount(bins, 1 / depth, minlength=_DEPTH_BINS).cpu()

    @property
    def metres(self) -> float:
        """The answer."""
        upto = self._weights.cumsum(0)
        if not upto[-1]:
            return 1.0
        middle = int(torch.searchsorted(upto, upto[-1] / 2)) + 0.5
        return _NEAREST * (_FARTHEST / _NEAREST) ** (middle / _DEPTH_BINS)

    def prediction(self, target: Tensor) -> Tensor:
        return torch.full_like(target, self.metres)


class MeanNormal(Constant):
    """The direction of the sum of all normals; before any was seen, straight at the camera: (0, 0, -1)."""

    def __init__(self) -> None:
        self._sum = torch.zeros(3, dtype=torch.float64)

    def observe(self, target: Tensor) -> None:
        self._sum += target.double().sum(dim=(0, 2, 3)).cpu()

    def prediction(self, target: Tensor) -> Tensor:
        length = self._sum.norm()
        normal = self._sum / length if length > 0 else torch.tensor([0.0, 0.0, -1.0])
        return normal.to(target).view(1, 3, 1, 1).expand_as(target)


class Hatching(Constant):
    """Level lines across the image, twice as dense as people draw: boundaries by chance.

    A boundary at every pixel is worth nothing where maps are thinned and matched one to one. Precision hardly depends on how
    many lines there are, recall does, so that more of them score more until two compete for one boundary: on BSDS500 at about
    twice the pixels that any annotator drew (F 0.4 within 0.0075 of the diagonal). Images that show nothing do not count.
    Before any label was seen: a line every 10 rows.

    Args:
        planes: maps that each have their own density, as classes do; 0 for one map, in which all of the target's planes are
            drawings of the same thing.
    """

    def __init__(self, planes: int = 0) -> None:
        self._drawn, self._known = torch.zeros(2, max(planes, 1), dtype=torch.float64)
        self._single = not planes

    def observe(self, target: Tensor) -> None:
        drawn, known = target == 1, target != 255
        if self._single:
            drawn, known = drawn.any(dim=1, keepdim=True), known.any(dim=1, keepdim=True)
        pixels = drawn.sum(dim=(2, 3)).double()
        self._drawn += pixels.sum(dim=0).cpu()
        self._known += torch.where(pixels > 0, known.sum(dim=(2, 3)), 0).sum(dim=0).cpu()

    def prediction(self, target: Tensor) -> Tensor:
        height, width = target.shape[-2:]
        share = torch.where(self._known > 0, self._drawn / self._known.clamp(min=1), 1 / 20)
        apart = (0.5 / share.clamp(min=1e-9)).clamp(3, max(height, 3)).round().long()  # closer lines merge
        rows = torch.arange(height) % apart[:, None] == apart[:, None] // 2
        lines = rows.to(torch.float32)[None, :, :, None].expand(len(target), -1, -1, width)
        return (lines[:, 0] if self._single else lines).to(target.device)


_MASK_SIDE = 32


class MeanMask(Constant):
    """How often each place of the image was salient in training, on a grid of 32 x 32: the "centre prior" of saliency.

    People point cameras at things, so that this alone is worth something. Before any label was seen: 1/2 everywhere.
    """

    def __init__(self) -> None:
        self._salient, self._known = torch.zeros(2, 1, 1, _MASK_SIDE, _MASK_SIDE, dtype=torch.float64)

    def observe(self, target: Tensor) -> None:
        for sums, mask in ((self._salient, target == 1), (self._known, target != 255)):
            shares = F.adaptive_avg_pool2d(mask[:, None].double(), _MASK_SIDE)
            sums += shares.sum(dim=0, keepdim=True).cpu()

    def prediction(self, target: Tensor) -> Tensor:
        share = torch.where(self._known > 0, self._salient / self._known.clamp(min=1e-12), 0.5)
        size = (target.shape[-2], target.shape[-1])
        whole = F.interpolate(share, size, mode="bilinear", align_corners=False)[:, 0]
        return whole.to(target.device, torch.float32).expand(len(target), *size)


class NoBoxes(Constant):
    """No box at all, which scores an average precision of 0: any constant set of boxes fits next to no object."""

    def observe(self, target: Any) -> None:
        pass

    def prediction(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        boxes = target["boxes"]
        scores = boxes.new_zeros(len(boxes), 1)
        return {"boxes": boxes.new_zeros(len(boxes), 1, 4), "scores": scores, "classes": scores.long() - 1}
