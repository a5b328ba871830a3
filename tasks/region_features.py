"""What the second stage of a detector sees of a box: features of the levels on a fixed grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.ops.boxes import area
from ubertrain.ops.roi_align import roi_align, roi_align_levels
from ubertrain.ops.roi_pool import roi_pool
from ubertrain.tasks.pyramid import OneLevel, Pyramid

Pool = Literal["align", "max"]
"""RoI align (Mask R-CNN), or RoI pooling by the maximum (Fast R-CNN)."""
From = Literal["finest", "size"]
"""The level that a box is read from: the finest one of the pyramid, or by the box's size (FPN)."""


@dataclass(frozen=True)
class FeatureSettings:
    """How a box is read; see `Boxes`."""

    pool: Pool
    bins: tuple[int, ...]
    regions_from: From
    canonical: float
    context: bool


class Views(NamedTuple):
    """The images as a head sees them: the trunk's `levels`, and the `pyramid` made of them; (rows, channels, h, w) each."""

    levels: Sequence[Tensor]
    pyramid: Sequence[Tensor]


def level_of(boxes: Tensor, strides: Sequence[int], canonical: float = 224.0) -> Tensor:
    """The level (rows, N) int64 that each box (rows, N, 4) is read from (Lin et al. 2017, equation 1).

    k = floor(4 + log2(sqrt(w h) / canonical)), for the level of stride 2^k, or the next finer one there is: a box of
    `canonical` pixels a side is read at stride 16. `strides` grow.
    """
    wanted = 2 ** ((area(boxes).sqrt() / canonical).log2().floor() + 4)
    return ((wanted[..., None] >= wanted.new_tensor(strides)).sum(dim=-1) - 1).clamp(min=0)


class RegionFeatures(nn.Module):
    """Boxes -> (rows, N, width), a fully connected layer over what is read of each, before its activation.

    A box is seen as a grid of the pyramid's features. Several numbers of bins make several grids of it, which are joined: with
    the maximum, the spatial pyramid of SPP-net (He et al. 2014). With `context` it is seen twice, also as the mean of each tap
    over the box: the means hand on what a pretrained trunk knows about classes without anything untrained in between, which
    pays where images are few.
    """

    def __init__(self, levels: Sequence[Level], pyramid: Pyramid | OneLevel, width: int, settings: FeatureSettings):
        super().__init__()
        self.settings, self.strides = settings, [level.stride for level in levels]
        self.pyramid_strides = pyramid.strides[: len(levels)]  # the level that the pyramid adds on top proposes only
        self.grid = nn.Linear(pyramid.channels * sum(bins**2 for bins in settings.bins), width)
        channels = sum(level.channels for level in levels)
        self.means = nn.Linear(channels, width, bias=False) if settings.context else None

    def forward(self, seen: Views, boxes: Tensor) -> Tensor:
        """The features of `boxes` (rows, N, 4)."""
        grids = [self._pooled(seen.pyramid, boxes, bins).flatten(2) for bins in self.settings.bins]
        features: Tensor = self.grid(grids[0] if len(grids) == 1 else torch.cat(grids, dim=-1))
        if self.means is None:
            return features
        means = [
            roi_align(level, boxes, stride, bins=1, samples=6).flatten(2)
            for level, stride in zip(seen.levels, self.strides, strict=True)
        ]
        return features + self.means(torch.cat([F.layer_norm(mean, mean.shape[-1:]) for mean in means], dim=-1))

    def _pooled(self, pyramid: Sequence[Tensor], boxes: Tensor, bins: int) -> Tensor:
        """(rows, N, channels, bins, bins)."""
        pool, strides = roi_pool if self.settings.pool == "max" else roi_align, self.pyramid_strides
        if self.settings.regions_from == "finest" or len(strides) == 1:
            return pool(pyramid[0], boxes, strides[0], bins)
        which = level_of(boxes, strides, self.settings.canonical)
        if self.settings.pool == "align":
            return roi_align_levels(pyramid[: len(strides)], boxes, strides, which, bins)
        every = [roi_pool(level, boxes, stride, bins) for level, stride in zip(pyramid, strides, strict=False)]
        own = (which == i for i in range(len(strides)))
        return reduce(torch.add, (mine[..., None, None, None] * value for mine, value in zip(own, every, strict=True)))
