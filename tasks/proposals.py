"""The first stage of Faster R-CNN (Ren et al. 2015, arXiv 1506.01497): a network that proposes boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.ops.anchors import anchors
from ubertrain.ops.assign import Truth, assign, sample
from ubertrain.ops.boxes import area, clip, decode, encode
from ubertrain.ops.nms import nms_fixed
from ubertrain.ops.pixels import full_precision
from ubertrain.tasks.candidates import quiet, take, weighted
from ubertrain.tasks.pyramid import OneLevel, Pyramid


class Kept(NamedTuple):
    """How many boxes of an image stay: `candidates` before suppression, `proposals` after it."""

    candidates: int
    proposals: int


@dataclass(frozen=True)
class ProposalSettings:
    """The numbers of the first stage; see `Boxes`.

    Attributes:
        train, test: the boxes that stay while losses are computed, and while detecting.
    """

    scales: tuple[float, ...]
    ratios: tuple[float, ...]
    train: Kept
    test: Kept
    nms: float
    min_side: float
    inside: bool
    samples: int


class Proposals(NamedTuple):
    """What the first stage says: objectness `logits` (rows, A) and `deltas` (rows, A, 4) of all `anchors` (A, 4)."""

    logits: Tensor
    deltas: Tensor
    anchors: Tensor


class ProposalNetwork(nn.Module):
    """Is there an object at this anchor, and where exactly? Shared by all levels of the pyramid."""

    def __init__(self, pyramid: Pyramid | OneLevel, settings: ProposalSettings):
        super().__init__()
        self.strides, self.settings, channels = tuple(pyramid.strides), settings, pyramid.channels
        shapes = len(settings.scales) * len(settings.ratios)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = quiet(nn.Conv2d(channels, shapes, 1), 0.01)
        self.deltas = quiet(nn.Conv2d(channels, shapes * 4, 1), 0.01)

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

    def select(self, said: Proposals, size: tuple[int, int], kept: Kept) -> tuple[Tensor, Tensor]:
        """The most promising boxes (rows, P, 4), within the image, without gradient; a bool (rows, P) is False for padding."""
        logits, deltas = said.logits.detach(), said.deltas.detach()
        scores, index = logits.topk(min(kept.candidates, logits.shape[1]), dim=1)
        boxes = clip(decode(take(deltas, index), said.anchors[index]), size)
        small = (area(boxes) < 1) | ((boxes[..., 2:] - boxes[..., :2]).amin(dim=-1) < self.settings.min_side)
        # What is not a number stays, so that the second stage says so, too, and nobody takes the image for empty.
        chosen = nms_fixed(
            boxes, scores.nan_to_num(torch.inf).masked_fill(small, -torch.inf), self.settings.nms, kept.proposals
        )
        real = chosen >= 0
        return torch.where(real[..., None], take(boxes, chosen.clamp(min=0)), 0.0), real

    def losses(self, said: Proposals, truth: Truth, chance: Tensor, size: tuple[int, int]) -> Tensor:
        """(rows,): binary cross-entropy over sampled anchors, and smooth L1 (sigma 3) where they are positive.

        `chance` (rows, A) are random numbers to sample by.
        """
        count = self.settings.samples
        whole = (clip(said.anchors, size) == said.anchors).all(dim=-1, keepdim=True) | (not self.settings.inside)
        # Without an area the others overlap nothing, so that an object's best anchor is the best of those that count.
        labels = assign((said.anchors * whole)[None], truth, positive=0.7, negative=0.3, best=True)
        labels = labels._replace(negative=labels.negative & whole[:, 0])
        index, used = sample(labels, chance, count, count // 2)
        positive = take(labels.positive, index) & used
        wanted = encode(take(truth.boxes, take(labels.truth, index)), said.anchors[index])
        missed = F.binary_cross_entropy_with_logits(take(said.logits, index), positive.to(said.logits.dtype), reduction="none")
        shifted = F.smooth_l1_loss(take(said.deltas, index), wanted, beta=1 / 9, reduction="none").sum(dim=-1)
        return weighted(missed, used) + weighted(shifted, positive)
