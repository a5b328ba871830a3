"""The head of dense tasks: scores at several trunk levels, fused on the grid of the finest one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.ops.grid import OnGrid
from ubertrain.ops.pixels import enlarge, full_precision, to_size
from ubertrain.tasks.heads import HeadRecipe

Fusion = Literal["concat", "sum"]
"""How levels become one; see `FusionHead`."""


def same(scores: Tensor) -> Tensor:
    """The scores themselves."""
    return scores


@dataclass(frozen=True)
class Fused(HeadRecipe):
    """The head `fusion`: scores or features at several levels, fused on the grid of the finest one; see `FusionHead`.

    Attributes:
        width: features per pixel before the scores; 0 for none.
        fusion: "concat" or "sum".
    """

    width: int = 64
    fusion: Fusion = "concat"

    def make(self, levels: Sequence[Level], channels: int) -> nn.Module:
        return FusionHead(levels, channels, width=self.width, fusion=self.fusion, on_grid=True)


class FusionHead(nn.Module):
    """Levels -> (rows, channels, height, width) scores at the resolution of the input.

    With `width` 0 this is UberNet's head (Kokkinos 2017, section 2; FCN's with "sum", Long et al. 2015): a 1x1 convolution
    scores each level, the scores are enlarged to the finest level's grid and fused there. With a width, that many features per
    level are fused in place of scores; scores are linear in them, and a 3x3 convolution adds to them. These features are
    normalised in groups within an image, so that levels of any magnitude contribute alike and no image depends on the others of
    its batch.

    Fusion "sum" adds. "concat" concatenates and applies a 1x1 convolution that starts as exact averaging. It is computed as the
    sum of its parts, each applied before its level is enlarged: a 1x1 convolution commutes with bilinear interpolation, and the
    concatenation, the largest tensor of such a head, is never made.

    It may run narrow (`engine.narrow`): the scores or features of a level are less than the level.

    The result covers the finest level times its stride, which is slightly more than an image that the stride does not divide.

    Args:
        levels: what the head reads, in the order in which it will be given them.
        channels: scores per pixel.
        width: features per pixel before the scores; 0 for none.
        fusion: see above.
        start: the scores that a new head gives, up to small random numbers: one for each channel.
        answer: turns scores into predictions in eval mode; in training mode the head returns the scores.
        on_grid: whether these are an `OnGrid` in training mode, not yet enlarged.

    Raises:
        ConfigError: a negative width.
    """

    def __init__(self, levels: Sequence[Level], channels: int, *, width: int = 0, fusion: Fusion = "concat",
                 start: Sequence[float] = (), answer: Callable[[Tensor], Tensor] = same,
                 on_grid: bool = False) -> None:  # fmt: skip
        super().__init__()
        if width < 0:
            raise ConfigError(f"width is the number of features per pixel, or 0 for none; given is {width}")
        self.strides, self.answer = [level.stride for level in levels], answer
        self.on_grid, self.keeps_grid = on_grid, False
        bias = torch.tensor(tuple(start) or (0.0,) * channels)
        if width:
            self.score = nn.ModuleList(_features(level.channels, width, kernel=1) for level in levels)
            self.refine: nn.Module = _Refined(width, bias)
        else:
            bias = bias / (len(levels) if fusion == "sum" else 1)
            self.score = nn.ModuleList(_scores(level.channels, bias, std=0.001) for level in levels)
            self.refine = nn.Identity()
        share = _share(width or channels, len(levels)) if fusion == "concat" else nn.Identity
        self.mix = nn.ModuleList(share() for _ in levels)

    def forward(self, levels: list[Tensor]) -> OnGrid | Tensor:
        """Scores in training mode, `answer(scores)` in eval mode."""
        return self.join([self.narrow(place, level) for place, level in enumerate(levels)])

    def narrow(self, place: int, level: Tensor) -> Tensor:
        """What is fused of one level: (rows, channels or width, height, width) on its own grid."""
        scores: Tensor = self.mix[place](self.score[place](level))
        return scores

    def join(self, narrowed: list[Tensor]) -> OnGrid | Tensor:
        """What `forward` gives, from the narrowed levels."""
        finest = min(self.strides)
        size = narrowed[self.strides.index(finest)].shape[-2:]
        factors = [stride / finest for stride in self.strides]
        fused = reduce(torch.add, (to_size(enlarge(*pair), size) for pair in zip(narrowed, factors, strict=True)))
        grid = OnGrid(full_precision(self.refine(fused)), finest)
        if self.keeps_grid or (self.training and self.on_grid):
            return grid
        if self.training:
            return grid.pixels()
        return self.answer(grid.pixels())


class _Refined(nn.Module):
    """Scores that are linear in the features, and what a 3x3 convolution adds to them.

    Without the linear ones, training stands for hundreds of steps at the answer that the commonest class is everywhere: the
    gradient of the lower layers is that of the last one's small weights.
    """

    def __init__(self, width: int, bias: Tensor) -> None:
        super().__init__()
        self.linear = _scores(width, bias, std=0.1)
        more = _scores(width, torch.zeros_like(bias), std=0.01)
        self.more = nn.Sequential(nn.ReLU(), _features(width, width, kernel=3), nn.ReLU(), more)

    def forward(self, features: Tensor) -> Tensor:
        """(rows, width, height, width of the map) -> (rows, channels, height, width of the map)."""
        scores: Tensor = self.linear(features) + self.more(features)
        return scores


def _features(channels: int, width: int, kernel: int) -> nn.Module:
    """Convolution and group normalisation, in up to 8 groups."""
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(math.gcd(8, width), width))


def _scores(channels: int, bias: Tensor, std: float) -> nn.Module:
    """A 1x1 convolution whose output starts near `bias`."""
    layer = nn.Conv2d(channels, len(bias), 1)
    nn.init.normal_(layer.weight, std=std)
    layer.bias = nn.Parameter(bias.clone())
    return layer


def _share(channels: int, levels: int) -> Callable[[], nn.Module]:
    """Makes one level's part of the 1x1 convolution over the concatenated levels, at first identity / levels."""

    def make() -> nn.Module:
        layer = nn.Conv2d(channels, channels, 1, bias=False)
        layer.weight = nn.Parameter(torch.eye(channels)[..., None, None] / levels)
        return layer

    return make
