"""UberNet's head for dense tasks (Kokkinos 2017, section 2; released network): six normalised taps, scored and fused."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.ops.grid import enlarge_corners
from ubertrain.ops.pixels import to_size
from ubertrain.tasks.heads import HeadRecipe, ToPixels, ratio, score_layer

_EPS, _GAIN = 1.0, 10.0
"""Of the released network: the batch norm's eps, which leaves weak taps weak, and the factor behind it."""


@dataclass(frozen=True)
class UberNet(HeadRecipe):
    """UberNet's head at one scale.

    Taps but the last one are normalised over the batch, so rows of a batch cannot be split. Scores stand on a grid of every
    `stride`-th pixel: finer taps are sampled there, coarser ones enlarged (align_corners=True, so that sides of 32k + 1 pixels
    fit exactly). UberNet's segmentation has its loss on that grid, stride 8; here it is at full resolution.

    Attributes:
        stride: of the grid, in pixels.
        all_normalised: whether the last tap, fc7 in UberNet, is normalised too.
    """

    taps: ClassVar[tuple[str, ...]] = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "fc7")

    stride: int = 8
    all_normalised: bool = False

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ConfigError(f"head 'ubernet': stride is a number of pixels from 1; given is {self.stride}")

    def grid_stride(self, levels: Sequence[Level]) -> int:
        return self.stride

    def make(self, levels: Sequence[Level], channels: int) -> nn.Module:
        parts: dict[str, nn.Module] = {
            "score": TapScores(levels, channels, self.stride, all_normalised=self.all_normalised),
            "fuse": Average(channels, [max(1, level.stride // self.stride) for level in levels]),
            "pixels": ToPixels(self.stride, corners=True),
        }
        return nn.Sequential(OrderedDict(parts))


class TapScores(nn.Module):
    """A list of levels -> the list of their scores, each on the grid or, where the level is coarser, on the level's own."""

    def __init__(self, levels: Sequence[Level], channels: int, stride: int, *, all_normalised: bool) -> None:
        super().__init__()
        plain = None if all_normalised else len(levels) - 1
        self.norm = nn.ModuleList(
            nn.Identity() if place == plain else nn.BatchNorm2d(level.channels, eps=_EPS, affine=False)
            for place, level in enumerate(levels)
        )
        self.gain = [1.0 if place == plain else _GAIN for place in range(len(levels))]
        self.every = [_steps(level.stride, stride) for level in levels]
        self.layer = nn.ModuleList(score_layer(level.channels, channels, std=0.001) for level in levels)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        return [
            layer(_sampled(norm(level), every) if gain == 1 else _sampled(norm(level), every) * gain)
            for layer, norm, level, every, gain in zip(self.layer, self.norm, levels, self.every, self.gain, strict=True)
        ]


class Average(nn.Module):
    """A 1x1 convolution over the concatenated scores, which starts as their mean.

    Computed as the sum of its parts, each applied before its scores are enlarged: the two commute, and the concatenation is
    never made.
    """

    def __init__(self, channels: int, factors: Sequence[int]) -> None:
        super().__init__()
        self.factors = list(factors)
        self.mix = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in factors)
        for part in self.mix:
            part.weight = nn.Parameter(torch.eye(channels)[..., None, None] / len(factors))

    def forward(self, scores: list[Tensor]) -> Tensor:
        parts = [
            part(value) if factor == 1 else enlarge_corners(part(value), factor)
            for part, value, factor in zip(self.mix, scores, self.factors, strict=True)
        ]
        size = parts[self.factors.index(min(self.factors))].shape[-2:]
        return reduce(torch.add, (to_size(part, size) for part in parts))


def _steps(tap: int, grid: int) -> int:
    """Every how manyth cell of a tap stands on the grid; 1 for a tap that is coarser.

    Raises:
        ConfigError: the two strides do not divide each other.
    """
    return ratio(grid, tap, "ubernet") if tap < grid else ratio(tap, grid, "ubernet") and 1


def _sampled(level: Tensor, every: int) -> Tensor:
    return level if every == 1 else level[..., ::every, ::every]
