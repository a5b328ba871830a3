"""The head of stereo self-supervision: disparities at several scales, from coarse to fine."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.ops.pixels import full_precision, to_size

SCALES = 4
_NARROWEST = 8
CHANNELS = 3
"""Disparity of the image, of a view to its right, and of a view to its left."""


class StereoHead(nn.Module):
    """Levels -> disparities, as the decoder of Godard et al. 2017: step by step to the image's own resolution.

    At each stride, from that of the coarsest level to 1, features are enlarged twofold, joined with the levels of that stride
    and the coarser scale's disparities, and convolved. The last four strides answer `limit` * sigmoid.

    In training mode it returns the scales, finest first, each (rows, 3, height / 2^s, width / 2^s): see `CHANNELS`. In eval
    mode {"disparity": (rows, height, width)}, a share of the image's width; with a `scale` also "depth", in metres.

    Args:
        levels: what the head reads, in the order in which it will be given them.
        width: features per pixel down to stride 4; half as many at 2 and a quarter at 1.
        limit: the largest disparity.
        start: what a new head answers.
        scale: depth in metres times disparity, or None.

    Raises:
        ConfigError: a stride that is no power of two.
    """

    def __init__(self, levels: Sequence[Level], *, width: int, limit: float, start: float, scale: float | None) -> None:
        super().__init__()
        self.limit, self.scale = limit, scale
        self.strides = [level.stride for level in levels]
        if unfit := [stride for stride in self.strides if stride < 1 or stride & (stride - 1)]:
            raise ConfigError(
                f"stereo_depth doubles its resolution from level to level; a stride of {unfit[0]} does not fit in"
            )
        self.lateral = nn.ModuleList(_lateral(level.channels, _width(width, level.stride)) for level in levels)
        self.steps = [2**power for power in range(max(self.strides).bit_length() - 1, -1, -1)]
        self.enlarge, self.join, self.answer = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for step in self.steps:
            own, last = _width(width, step), step == self.steps[0]
            if not last:
                self.enlarge[str(step)] = nn.Conv2d(_width(width, 2 * step), own, 3, padding=1)
            parts = (step in self.strides) + (not last)
            coarser = CHANNELS if str(2 * step) in self.answer else 0
            self.join[str(step)] = nn.Conv2d(own * parts + coarser, own, 3, padding=1)
            if step < 2**SCALES:
                self.answer[str(step)] = _answer(own, start / limit)

    def forward(self, levels: list[Tensor]) -> Any:
        """See the class."""
        answers: list[Tensor] = []
        features: Tensor | None = None
        for step in self.steps:
            parts = self._parts(step, levels, features, answers)
            features = F.elu(self.join[str(step)](torch.cat(parts, dim=1)))
            if step < 2**SCALES:
                answers.append(self.limit * full_precision(self.answer[str(step)](features)).sigmoid())
        if self.training:
            return answers[::-1]
        disparity = answers[-1][:, 0]
        if self.scale is None:
            return {"disparity": disparity}
        return {"disparity": disparity, "depth": self.scale / disparity.clamp(min=1e-6)}

    def _parts(self, step: int, levels: list[Tensor], features: Tensor | None, answers: list[Tensor]) -> list[Tensor]:
        """What is joined at one stride, brought to one size."""
        here = [place for place, stride in enumerate(self.strides) if stride == step]
        laterals = [self.lateral[place](levels[place]) for place in here]
        parts = [torch.stack(laterals).sum(dim=0)] if laterals else []
        if features is not None:
            finer = F.elu(self.enlarge[str(step)](F.interpolate(features, scale_factor=2.0, mode="nearest")))
            parts.append(to_size(finer, parts[0].shape[-2:]) if parts else finer)
        if answers:
            coarser = F.interpolate(answers[-1], scale_factor=2.0, mode="nearest").to(parts[0].dtype)
            parts.append(to_size(coarser, parts[0].shape[-2:]))
        return parts


def _width(width: int, stride: int) -> int:
    return max(width * min(stride, 4) // 4, min(width, _NARROWEST))


def _lateral(channels: int, width: int) -> nn.Module:
    """A level's features, normalised within the image so that levels of any magnitude contribute alike."""
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(math.gcd(8, width), width))


def _answer(width: int, share: float) -> nn.Module:
    """A convolution whose sigmoid starts near `share`."""
    layer = nn.Conv2d(width, CHANNELS, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.01)
    layer.bias = nn.Parameter(torch.full((CHANNELS,), math.log(share / (1 - share))))
    return layer
