"""The second stage of a detector (Girshick 2015, Fast R-CNN, arXiv 1504.08083): what is in a box, and where exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.ops.assign import Assignment, Truth, assign, sample
from ubertrain.ops.boxes import clip, decode, encode
from ubertrain.ops.nms import apart, nms_fixed
from ubertrain.ops.pixels import full_precision
from ubertrain.tasks.candidates import quiet, take, weighted
from ubertrain.tasks.pyramid import OneLevel, Pyramid
from ubertrain.tasks.region_features import FeatureSettings, RegionFeatures, Views

_SCALE = 0.1, 0.1, 0.2, 0.2
"""What box offsets are divided by before they are learned (Fast R-CNN's target deviations)."""
_SUPPRESSED = 4096
"""Pairs of box and class of an image, the likeliest ones, among which detections are chosen."""


@dataclass(frozen=True)
class RegionSettings:
    """The numbers of the second stage; see `Boxes`."""

    classes: int
    width: int
    samples: int
    positives: float
    background_from: float
    agnostic: bool
    nms: float
    min_score: float
    detections: int


class RegionHead(nn.Module):
    """Which class is in this box (0 is background), and where exactly is it?"""

    def __init__(
        self, levels: Sequence[Level], pyramid: Pyramid | OneLevel, settings: RegionSettings, features: FeatureSettings
    ):
        super().__init__()
        self.settings, width = settings, settings.width
        self.boxes = 1 if settings.agnostic else settings.classes
        self.features = RegionFeatures(levels, pyramid, width, features)
        self.hidden = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.scores = quiet(nn.Linear(width, settings.classes + 1), 0.01)
        self.deltas = quiet(nn.Linear(width, self.boxes * 4), 0.001)

    def forward(self, seen: Views, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """For `boxes` (rows, N, 4): class logits (rows, N, classes + 1) and offsets (rows, N, classes or 1, 4)."""
        hidden = self.hidden(self.features(seen, boxes))
        deltas = full_precision(self.deltas(hidden)).unflatten(-1, (self.boxes, 4))
        return full_precision(self.scores(hidden)), deltas * deltas.new_tensor(_SCALE)

    def choose(self, boxes: Tensor, real: Tensor, truth: Truth, chance: Tensor) -> tuple[Tensor, Tensor, Assignment]:
        """A fixed number of the proposals and the objects themselves: boxes (rows, S, 4), used (rows, S), what each one is."""
        count = self.settings.samples
        boxes = torch.cat([boxes, truth.boxes.to(boxes.dtype)], dim=1)
        real = torch.cat([real, truth.objects], dim=1)
        labels = assign(boxes, truth, positive=0.5, negative=0.5, least=self.settings.background_from)
        labels = labels._replace(positive=labels.positive & real, negative=labels.negative & real)
        index, used = sample(labels, chance, count, int(count * self.settings.positives))
        return take(boxes, index), used, Assignment(*(take(part, index) for part in labels))

    def losses(self, seen: Views, boxes: Tensor, real: Tensor, truth: Truth, chance: Tensor) -> Tensor:
        """(rows,): cross-entropy over sampled boxes, and smooth L1 where they are positive.

        `chance` (rows, P + M) are random numbers to sample proposals and objects by.
        """
        boxes, used, labels = self.choose(boxes, real, truth, chance)
        logits, deltas = self(seen, boxes)
        positive = labels.positive & used
        classes = torch.where(positive, take(truth.classes, labels.truth) + 1, 0)
        mistaken = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(used)
        scale = deltas.new_tensor(_SCALE)
        wanted = encode(take(truth.boxes, labels.truth), boxes) / scale
        own = (classes - 1).clamp(min=0) if self.boxes > 1 else torch.zeros_like(classes)
        said = deltas.gather(2, own[..., None, None].expand(*own.shape, 1, 4)).squeeze(2) / scale
        shifted = F.smooth_l1_loss(said, wanted, reduction="none").sum(dim=-1)
        return weighted(mistaken, used) + weighted(shifted, positive)

    def detect(self, seen: Views, boxes: Tensor, real: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """The final boxes of every image after suppression within each class, best first, padded with class -1.

        A score that is not a number is a detection, so that what scores it can tell a diverged network from an empty image.
        """
        logits, deltas = self(seen, boxes)
        scores = torch.where(real[..., None], logits.softmax(dim=-1)[..., 1:], 0.0)
        found = clip(decode(deltas, boxes[:, :, None]), size).expand(*scores.shape, 4).flatten(1, 2)
        scores, index = scores.flatten(1).topk(min(_SUPPRESSED, found.shape[1]), dim=1)
        found, classes = take(found, index), index % self.settings.classes
        rank = scores.detach().double().nan_to_num(torch.inf)
        rank = rank.masked_fill(rank <= self.settings.min_score, -torch.inf)
        kept = nms_fixed(apart(found.detach(), classes), rank, self.settings.nms, self.settings.detections)
        empty, kept = kept < 0, kept.clamp(min=0)
        return {
            "boxes": take(found, kept).masked_fill(empty[..., None], 0.0),
            "scores": take(scores, kept).masked_fill(empty, 0.0),
            "classes": take(classes, kept).masked_fill(empty, -1),
        }
