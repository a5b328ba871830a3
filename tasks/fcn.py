"""Fully convolutional networks (Long, Shelhamer and Darrell 2015): coarse scores, refined by those of finer levels."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.ops.grid import OnGrid
from ubertrain.ops.pixels import enlarge, full_precision, to_size
from ubertrain.tasks.heads import HeadRecipe, ToPixels, ratio, score_layer

Upsampling = Literal["fixed", "learned", "all"]
"""Which upconvolutions learn: none; those between levels, as in the paper, section 4.3; also the last one, up to pixels."""


@dataclass(frozen=True)
class FCN32(HeadRecipe):
    """FCN-32s: one level's scores, enlarged to pixels.

    Trained at once, where the paper goes from 32s by 16s to 8s.

    Attributes:
        width: features of a 3x3 convolution before the coarsest scores; 0 for none, as where the trunk has fc6 and fc7.
        upsampling: "learned" has upconvolutions that start as bilinear between levels and a fixed bilinear last one, as in the
            paper; "fixed" keeps all as they start, as in its code; "all" learns the last one too, a kernel for each class, and
            then training holds scores at full resolution.
        scales: fixed factors of the levels, finest first, by which the scores of raw VGG levels grow slower: [0.0001, 0.01, 1]
            in the published FCN-8s that is trained at once; empty for 1.
    """

    taps: ClassVar[tuple[str, ...]] = ("res5",)

    width: int = 0
    upsampling: Upsampling = "learned"
    scales: tuple[float, ...] = ()

    def grid_stride(self, levels: Sequence[Level]) -> int:
        return 1 if self.upsampling == "all" else super().grid_stride(levels)

    def make(self, levels: Sequence[Level], channels: int) -> nn.Module:
        if len(levels) != len(self.taps):
            name = type(self).__name__.lower()
            raise ConfigError(f"head {name!r} reads {len(self.taps)} levels; given are {len(levels)}: choose other taps")
        return FCNHead(levels, channels, width=self.width, upsampling=self.upsampling, scales=self.scales)


@dataclass(frozen=True)
class FCN16(FCN32):
    """FCN-16s: FCN-32s with the scores of one finer level added before the last enlarging; see there for the keys."""

    taps: ClassVar[tuple[str, ...]] = ("res4", "res5")


@dataclass(frozen=True)
class FCN8(FCN32):
    """FCN-8s: FCN-16s with the scores of one more level added; see FCN-32s for the keys."""

    taps: ClassVar[tuple[str, ...]] = ("res3", "res4", "res5")


class FCNHead(nn.Sequential):
    """Levels, any number of them, -> scores on the grid of the finest, or of pixels.

    Every level is scored by a 1x1 convolution that starts at 0; from the coarsest on, the sum so far is enlarged to the next
    level's grid and its scores are added. It may run narrow (`engine.narrow`): scores are less than their level.

    Where the paper pads images by 100 pixels, upconvolutions here continue the border, so that fixed ones are bilinear
    interpolation up to the border.

    Raises:
        ConfigError: strides that do not divide each other, or scales that do not fit the levels.
    """

    def __init__(self, levels: Sequence[Level], channels: int, *, width: int = 0, upsampling: Upsampling = "learned",
                 scales: Sequence[float] = ()) -> None:  # fmt: skip
        if width < 0 or len(scales) not in (0, len(levels)):
            raise ConfigError(f"an FCN head has a width from 0 and no scales or one for each of {len(levels)} levels; "
                              f"given are width {width} and {len(scales)} scales")  # fmt: skip
        finest = min(level.stride for level in levels)
        parts: dict[str, nn.Module] = {
            "score": ScoredLevels(levels, channels, width, scales),
            "climb": Climb([level.stride for level in levels], channels, learned=upsampling != "fixed"),
            "pixels": UpToPixels(channels, finest) if upsampling == "all" else ToPixels(finest),
        }
        super().__init__(OrderedDict(parts))

    def narrow(self, place: int, level: Tensor) -> Tensor:
        """The scores of one level."""
        score = self.get_submodule("score")
        assert isinstance(score, ScoredLevels)
        return score.one(place, level)

    def join(self, narrowed: list[Tensor]) -> OnGrid | Tensor:
        """What `forward` gives, from the scores of all levels."""
        _, climb, pixels = self
        scores: OnGrid | Tensor = pixels(climb(narrowed))
        return scores


class ScoredLevels(nn.ModuleList):
    """A list of levels -> the list of their scores."""

    def __init__(self, levels: Sequence[Level], channels: int, width: int, scales: Sequence[float]) -> None:
        coarsest = _climbing([level.stride for level in levels])[0]
        layers: list[nn.Module] = [score_layer(level.channels, channels) for level in levels]
        if width:
            hidden = nn.Conv2d(levels[coarsest].channels, width, 3, padding=1)
            nn.init.kaiming_normal_(hidden.weight, nonlinearity="relu")
            layers[coarsest] = nn.Sequential(hidden, nn.ReLU(), score_layer(width, channels))
        super().__init__(layers)
        self.scales = tuple(scales) or (1.0,) * len(levels)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        return [self.one(place, level) for place, level in enumerate(levels)]

    def one(self, place: int, level: Tensor) -> Tensor:
        """The scores of the level at a place."""
        scale = self.scales[place]
        scores: Tensor = self[place](level if scale == 1 else level * scale)
        return scores


class Climb(nn.Module):
    """Scores of several levels -> their sum on the grid of the finest, from the coarsest on."""

    def __init__(self, strides: Sequence[int], channels: int, *, learned: bool) -> None:
        super().__init__()
        self.order = _climbing(strides)
        steps = [ratio(strides[below], strides[above], "fcn") for below, above in zip(self.order, self.order[1:], strict=False)]
        self.up = nn.ModuleList(Upconvolution(channels, step) if learned and step > 1 else Enlarge(step) for step in steps)

    def forward(self, scores: list[Tensor]) -> Tensor:
        total = scores[self.order[0]]
        for place, up in zip(self.order[1:], self.up, strict=True):
            total = to_size(up(total), scores[place].shape[-2:]) + scores[place]
        return total


class Enlarge(nn.Module):
    """`enlarge` by a fixed factor."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        return enlarge(values, self.factor)


class Upconvolution(nn.Module):
    """A transposed convolution that makes each side `factor` times as long and starts as bilinear interpolation.

    The border is continued by one cell before and cut off after, so that a new one equals `enlarge` at every pixel.

    Args:
        channels: in and out.
        factor: above 1.
        apart: whether every channel has its own kernel and no others'.
    """

    def __init__(self, channels: int, factor: int, *, apart: bool = False) -> None:
        super().__init__()
        kernel = 2 * factor - factor % 2
        self.factor = factor
        self.layer = nn.ConvTranspose2d(
            *(channels, channels, kernel), stride=factor, padding=(kernel - factor) // 2, bias=False,
            groups=channels if apart else 1,
        )  # fmt: skip
        tent = bilinear_kernel(kernel)
        mixing = torch.ones(channels, 1) if apart else torch.eye(channels)
        self.layer.weight = nn.Parameter(mixing[..., None, None] * tent)

    def forward(self, values: Tensor) -> Tensor:
        """(rows, channels, height, width) -> (rows, channels, factor * height, factor * width)."""
        larger: Tensor = self.layer(F.pad(values, (1, 1, 1, 1), mode="replicate"))
        return larger[..., self.factor : -self.factor, self.factor : -self.factor]


class UpToPixels(nn.Module):
    """The last upconvolution where it learns: scores at full resolution in both modes."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.up = Upconvolution(channels, stride, apart=True) if stride > 1 else nn.Identity()

    def forward(self, scores: Tensor) -> Tensor:
        return full_precision(self.up(scores))


def bilinear_kernel(size: int) -> Tensor:
    """(size, size): (1 - |x - c| / f)(1 - |y - c| / f) with f = (size + 1) // 2, around the middle c (FCN's surgery.py)."""
    factor = (size + 1) // 2
    tent = 1 - (torch.arange(size) - (size - 1) / 2).abs() / factor
    return tent[:, None] * tent


def _climbing(strides: Sequence[int]) -> list[int]:
    """The places of levels from the coarsest to the finest; of two with one stride, the later one is the coarser."""
    return sorted(range(len(strides)), key=lambda place: (-strides[place], -place))
