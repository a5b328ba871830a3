"""Object detection: a small Faster R-CNN (Ren et al. 2015, arXiv 1506.01497) on a feature pyramid (Lin et al. 2017).

Every shape is fixed by the configuration and the size of the images: candidates are sampled to fixed counts, with weight 0
where an image has fewer. Detection can therefore be measured on fake tensors and planned like any other branch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.annotation.boxes import Boxes as BoxesKind
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError, TaskError
from ubertrain.metrics.box_ap import BoxAP
from ubertrain.ops.anchors import anchors
from ubertrain.ops.assign import Assignment, Truth, assign, sample
from ubertrain.ops.boxes import area, clip, decode, encode
from ubertrain.ops.nms import apart, nms_fixed
from ubertrain.ops.pixels import full_precision
from ubertrain.ops.roi_align import roi_align
from ubertrain.registry import register_task
from ubertrain.task import Task

_BINS = 7
_SHOWN = 0.3
"""Pictures show detections from this probability on."""
_REGION_SCALE = 0.1, 0.1, 0.2, 0.2
"""What the second stage's box offsets are divided by before they are learned (Fast R-CNN's target deviations)."""


@dataclass(frozen=True)
class Settings:
    """The numbers of the head; see `Boxes`."""

    classes: int
    channels: int
    width: int
    depth: int
    scales: tuple[float, ...]
    ratios: tuple[float, ...]
    candidates: int
    proposals: int
    anchor_samples: int
    region_samples: int
    agnostic: bool
    nms: float
    min_score: float
    detections: int


class Views(NamedTuple):
    """The images as a head sees them: the trunk's `levels`, and the `pyramid` made of them; (rows, channels, h, w) each."""

    levels: Sequence[Tensor]
    pyramid: Sequence[Tensor]


class Proposals(NamedTuple):
    """What the first stage says: objectness `logits` (rows, A) and `deltas` (rows, A, 4) of all `anchors` (A, 4)."""

    logits: Tensor
    deltas: Tensor
    anchors: Tensor


def _take(values: Tensor, index: Tensor) -> Tensor:
    """`values` (rows, N, ...) at `index` (rows, K): (rows, K, ...)."""
    return values.gather(1, index.view(*index.shape, *[1] * (values.ndim - 2)).expand(*index.shape, *values.shape[2:]))


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """One number per image: the weighted sum of `values` (rows, N) over N. The count is fixed, so no image sways another."""
    return (values * weights).sum(dim=1) / values.shape[1]


def _quiet(layer: nn.Conv2d | nn.Linear, deviation: float) -> nn.Module:
    """An output layer that says almost nothing at first (Fast R-CNN's deviations)."""
    nn.init.normal_(layer.weight, std=deviation)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Pyramid(nn.Module):
    """Taps of any width and scale as `depth` levels of `channels`, finest first; coarse levels are added into finer ones.

    Group normalisation makes the head indifferent to the scale of a trunk's values and keeps images apart.
    """

    def __init__(self, levels: Sequence[Level], channels: int, depth: int):
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(level.channels, channels, 1, bias=False), nn.GroupNorm(8, channels)) for level in levels
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(8, channels), nn.ReLU())
            for _ in range(depth)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """(rows, channels, h, w) per level."""
        merged: list[Tensor] = []
        for lateral, level in zip(reversed(self.lateral), reversed(levels), strict=True):
            value = lateral(level)
            merged.append(value + F.interpolate(merged[-1], value.shape[-2:]) if merged else value)
        return [smooth(level) for smooth, level in zip(self.smooth, reversed(merged), strict=False)]


class ProposalNetwork(nn.Module):
    """The first stage: is there an object at this anchor, and where exactly? Shared by all levels of the pyramid."""

    def __init__(self, strides: Sequence[int], settings: Settings):
        super().__init__()
        self.strides, self.settings = tuple(strides), settings
        shapes = len(settings.scales) * len(settings.ratios)
        self.conv = nn.Conv2d(settings.channels, settings.channels, 3, padding=1)
        self.objectness = _quiet(nn.Conv2d(settings.channels, shapes, 1), 0.01)
        self.deltas = _quiet(nn.Conv2d(settings.channels, shapes * 4, 1), 0.01)

    def forward(self, pyramid: Sequence[Tensor]) -> Proposals:
        """The judgement of all anchors, level by level."""
        hidden = [F.relu(self.conv(level)) for level in pyramid]
        logits = [self.objectness(value).permute(0, 2, 3, 1).flatten(1) for value in hidden]
        deltas = [self.deltas(value).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)) for value in hidden]
        where = [
            anchors(level, stride, [scale * stride for scale in self.settings.scales], self.settings.ratios)
            for level, stride in zip(pyramid, self.strides, strict=True)
        ]
        return Proposals(full_precision(torch.cat(logits, 1)), full_precision(torch.cat(deltas, 1)), torch.cat(where))

    def select(self, said: Proposals, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The most promising boxes (rows, P, 4), within the image, without gradient; a bool (rows, P) is False for padding."""
        logits, deltas = said.logits.detach(), said.deltas.detach()
        scores, index = logits.topk(min(self.settings.candidates, logits.shape[1]), dim=1)
        boxes = clip(decode(_take(deltas, index), said.anchors[index]), size)
        scores = scores.masked_fill(area(boxes) < 1, -torch.inf)
        kept = nms_fixed(boxes, scores, 0.7, self.settings.proposals)
        real = kept >= 0
        return _take(boxes, kept.clamp(min=0)) * real[..., None], real

    def losses(self, said: Proposals, truth: Truth, chance: Tensor) -> Tensor:
        """(rows,): binary cross-entropy over sampled anchors, and smooth L1 (sigma 3) where they are positive.

        `chance` (rows, A) are random numbers to sample by.
        """
        count = self.settings.anchor_samples
        labels = assign(said.anchors[None], truth, positive=0.7, negative=0.3, best=True)
        index, used = sample(labels, chance, count, count // 2)
        positive = _take(labels.positive, index) & used
        wanted = encode(_take(truth.boxes, _take(labels.truth, index)), said.anchors[index])
        missed = F.binary_cross_entropy_with_logits(_take(said.logits, index), positive.to(said.logits.dtype), reduction="none")
        shifted = F.smooth_l1_loss(_take(said.deltas, index), wanted, beta=1 / 9, reduction="none").sum(dim=-1)
        return _weighted(missed, used) + _weighted(shifted, positive)


class RegionHead(nn.Module):
    """The second stage: which class is in this box (0 is background), and where exactly is it?

    It sees a box twice: as a grid of the pyramid's features, and as the mean of each tap over the box. The means hand on what
    a pretrained trunk knows about classes without anything untrained in between, which pays where images are few.
    """

    def __init__(self, levels: Sequence[Level], settings: Settings):
        super().__init__()
        self.settings, self.strides = settings, [level.stride for level in levels]
        self.boxes = 1 if settings.agnostic else settings.classes
        width = settings.width
        self.grid = nn.Linear(settings.channels * _BINS**2, width)
        self.means = nn.Linear(sum(level.channels for level in levels), width, bias=False)
        self.hidden = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.scores = _quiet(nn.Linear(width, settings.classes + 1), 0.01)
        self.deltas = _quiet(nn.Linear(width, self.boxes * 4), 0.001)

    def forward(self, seen: Views, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """For `boxes` (rows, N, 4): class logits (rows, N, classes + 1) and offsets (rows, N, classes or 1, 4)."""
        grid = roi_align(seen.pyramid[0], boxes, self.strides[0], _BINS).flatten(2)
        means = [
            roi_align(level, boxes, stride, bins=1, samples=6).flatten(2)
            for level, stride in zip(seen.levels, self.strides, strict=True)
        ]
        means = [F.layer_norm(mean, mean.shape[-1:]) for mean in means]
        hidden = self.hidden(self.grid(grid) + self.means(torch.cat(means, dim=-1)))
        deltas = full_precision(self.deltas(hidden)).unflatten(-1, (self.boxes, 4))
        return full_precision(self.scores(hidden)), deltas * deltas.new_tensor(_REGION_SCALE)

    def choose(self, boxes: Tensor, real: Tensor, truth: Truth, chance: Tensor) -> tuple[Tensor, Tensor, Assignment]:
        """A fixed number of the proposals and the objects themselves: boxes (rows, S, 4), used (rows, S), what each one is."""
        count = self.settings.region_samples
        boxes = torch.cat([boxes, truth.boxes.to(boxes.dtype)], dim=1)
        real = torch.cat([real, truth.objects], dim=1)
        labels = assign(boxes, truth, positive=0.5, negative=0.5)
        labels = labels._replace(positive=labels.positive & real, negative=labels.negative & real)
        index, used = sample(labels, chance, count, count // 4)
        return _take(boxes, index), used, Assignment(*(_take(part, index) for part in labels))

    def losses(self, seen: Views, boxes: Tensor, real: Tensor, truth: Truth, chance: Tensor) -> Tensor:
        """(rows,): cross-entropy over sampled boxes, and smooth L1 where they are positive.

        `chance` (rows, P + M) are random numbers to sample proposals and objects by.
        """
        boxes, used, labels = self.choose(boxes, real, truth, chance)
        logits, deltas = self(seen, boxes)
        positive = labels.positive & used
        classes = torch.where(positive, _take(truth.classes, labels.truth) + 1, 0)
        mistaken = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(used)
        scale = deltas.new_tensor(_REGION_SCALE)
        wanted = encode(_take(truth.boxes, labels.truth), boxes) / scale
        own = (classes - 1).clamp(min=0) if self.boxes > 1 else torch.zeros_like(classes)
        said = deltas.gather(2, own[..., None, None].expand(*own.shape, 1, 4)).squeeze(2) / scale
        shifted = F.smooth_l1_loss(said, wanted, reduction="none").sum(dim=-1)
        return _weighted(mistaken, used) + _weighted(shifted, positive)

    def detect(self, seen: Views, boxes: Tensor, real: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """The final boxes of every image after suppression within each class, best first, padded with class -1."""
        logits, deltas = self(seen, boxes)
        scores = logits.softmax(dim=-1)[..., 1:] * real[..., None]
        found = clip(decode(deltas, boxes[:, :, None]), size).expand(*scores.shape, 4).flatten(1, 2)
        limit = min(4 * self.settings.detections, found.shape[1])
        scores, index = scores.flatten(1).topk(limit, dim=1)
        found, classes = _take(found, index), index % self.settings.classes
        strong = scores.detach().masked_fill(scores <= self.settings.min_score, -torch.inf)
        kept = nms_fixed(apart(found.detach(), classes), strong.double(), self.settings.nms, self.settings.detections)
        empty, kept = kept < 0, kept.clamp(min=0)
        return {
            "boxes": _take(found, kept).masked_fill(empty[..., None], 0.0),
            "scores": _take(scores, kept).masked_fill(empty, 0.0),
            "classes": _take(classes, kept).masked_fill(empty, -1),
        }


class FasterRCNN(nn.Module):
    """Both stages on one pyramid. Given `target`, the losses; else the detections."""

    def __init__(self, levels: Sequence[Level], settings: Settings):
        super().__init__()
        self.strides = [level.stride for level in levels]
        self.pyramid = Pyramid(levels, settings.channels, settings.depth)
        self.proposals = ProposalNetwork(self.strides[: settings.depth], settings)
        self.regions = RegionHead(levels, settings)

    def forward(self, levels: list[Tensor], target: Mapping[str, Tensor] | None = None) -> Any:
        """Losses (rows,) for a collated `target`; without one, {"boxes", "scores", "classes"}.

        The image is taken to be as large as the finest level times its stride.
        """
        size = (levels[0].shape[-2] * self.strides[0], levels[0].shape[-1] * self.strides[0])
        seen = Views(levels, self.pyramid(levels))
        said = self.proposals(seen.pyramid)
        boxes, real = self.proposals.select(said, size)
        if target is None:
            return self.regions.detect(seen, boxes, real, size)
        truth = Truth(target["boxes"], target["classes"], target["ignore"])
        # One draw, image by image, so that running the images in several parts samples the same candidates (on CPU).
        counts = [said.logits.shape[1], boxes.shape[1] + truth.boxes.shape[1]]
        chance = torch.rand(len(boxes), sum(counts), device=boxes.device).split(counts, dim=1)
        first = self.proposals.losses(said, truth, chance[0])
        return first + self.regions.losses(seen, boxes, real, truth, chance[1])


@register_task("boxes")
class Boxes(Task):
    """Boxes and classes of objects.

    Args:
        classes: how many classes, or their names in the order of their ids.
        taps: trunk levels, finest first; regions are read from the finest, into which the others are added.
        channels: width of the pyramid, a multiple of 8.
        width: width of the two fully connected layers of the second stage.
        depth: how many of the pyramid's levels carry anchors, finest first.
        scales: square roots of the anchors' areas, in multiples of their level's stride.
        ratios: height / width of the anchors.
        candidates, proposals: boxes of an image before and after suppression (IoU 0.7) between the stages.
        anchor_samples, region_samples: per image, what the losses of the two stages look at.
        agnostic: one box offset for all classes (learns from fewer images) instead of one for each.
        nms: IoU from which detections of one class suppress each other.
        min_score: detections at or below this probability are dropped.
        detections: per image.
    """

    annotation = BoxesKind

    def __init__(self, *, classes: int | Sequence[str], taps: Sequence[str] = ("res3", "res4", "res5"),
                 channels: int = 64, width: int = 256, depth: int = 1,
                 scales: Sequence[float] = (3, 6, 12, 24), ratios: Sequence[float] = (0.5, 1, 2),
                 candidates: int = 256, proposals: int = 64, anchor_samples: int = 128, region_samples: int = 64,
                 agnostic: bool = True, nms: float = 0.5, min_score: float = 0.05, detections: int = 100):  # fmt: skip
        self.names = tuple(classes) if not isinstance(classes, int) else tuple(str(index) for index in range(classes))
        if not self.names or channels % 8 or not 1 <= depth <= len(taps):
            raise ConfigError(
                f"boxes needs at least one class, channels in multiples of 8 and a depth from 1 to its {len(taps)} taps; "
                f"given are {len(self.names)} classes, channels {channels}, depth {depth}"
            )
        self.taps = tuple(taps)
        self.settings = Settings(
            len(self.names), channels, width, depth, tuple(scales), tuple(ratios), candidates, proposals, anchor_samples,
            region_samples, agnostic, nms, min_score, detections,
        )  # fmt: skip

    def make_head(self, levels: list[Level]) -> nn.Module:
        """`head(levels)` detects; `head(levels, target)` gives the losses."""
        return FasterRCNN(levels, self.settings)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        """Not defined: the second stage needs the head to look at the regions that it is trained on."""
        raise TaskError("task 'boxes' learns in two stages: call losses(head, levels, target) instead of loss")

    def losses(self, head: nn.Module, levels: list[Tensor], target: Any) -> Tensor:
        """(rows,): the four losses of Faster R-CNN, each a mean over the image's fixed number of samples."""
        losses: Tensor = head(levels, target)
        return losses

    def metric(self) -> BoxAP:
        """Average precision as COCO defines it."""
        return BoxAP(len(self.names))

    def draw(self, image: np.ndarray, prediction: Any) -> np.ndarray:
        """The more certain boxes with class names and scores."""
        classes = prediction["classes"].masked_fill(prediction["scores"] < _SHOWN, -1)
        return BoxesKind.draw(image, {**prediction, "classes": classes}, names=self.names)
