"""A feature pyramid (Lin et al. 2017, arXiv 1612.03144): taps of any width and scale as levels of one width."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.engine.level import Level


class Pyramid(nn.Module):
    """Taps of any width and scale as `depth` levels of `channels`, finest first; coarse levels are added into finer ones.

    Group normalisation makes the head indifferent to the scale of a trunk's values and keeps images apart. One level more than
    there are taps is the coarsest one with every second row and column (the paper's P6).

    Attributes:
        strides: of the levels it makes.
        channels: of each of them.
    """

    def __init__(self, levels: Sequence[Level], channels: int, depth: int):
        super().__init__()
        self.channels = channels
        self.strides = [level.stride for level in levels][:depth] + [2 * levels[-1].stride] * (depth - len(levels))
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(level.channels, channels, 1, bias=False), nn.GroupNorm(8, channels)) for level in levels
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(8, channels), nn.ReLU())
            for _ in range(min(depth, len(levels)))
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """(rows, channels, h, w) per level."""
        merged: list[Tensor] = []
        for lateral, level in zip(reversed(self.lateral), reversed(levels), strict=True):
            value = lateral(level)
            merged.append(value + F.interpolate(merged[-1], value.shape[-2:]) if merged else value)
        smooth = [layer(level) for layer, level in zip(self.smooth, reversed(merged), strict=False)]
        return smooth if len(smooth) == len(self.strides) else [*smooth, smooth[-1][..., ::2, ::2]]


class OneLevel(nn.Module):
    """The one tap as it is, as Fast and Faster R-CNN and UberNet's detector read theirs.

    Attributes:
        strides, channels: as for `Pyramid`.
    """

    def __init__(self, level: Level):
        super().__init__()
        self.channels, self.strides = level.channels, [level.stride]

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """`levels`, of which there is one."""
        return list(levels)
