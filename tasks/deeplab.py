"""DeepLab's heads (Chen et al. 2015, 2017, 2017b): dilated convolutions that see far on one level of a dilated trunk."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.tasks.heads import HeadRecipe, OnlyLevel, ToPixels, only, score_layer
from ubertrain.trunks.norm import NormKind, make_norm


@dataclass(frozen=True)
class LargeFOV(HeadRecipe):
    """DeepLab-LargeFOV: a 3x3 convolution dilated by 12 and a 1x1 one, both with dropout, then scores.

    For a level of stride 8 without fc6 and fc7 of its own: `vgg16` has this head's two layers, with pretrained weights, in the
    trunk unless it says `fc: false`; there, `fcn32` on the tap "fc7" is DeepLab-LargeFOV.

    Attributes:
        width: features of both layers.
        rate: dilation of the first, in cells of the level.
        dropout: probability after each.
        corners: whether scores stand at the corners of cells, as in Caffe's and TensorFlow's DeepLab, which crop images to
            8k + 1; see `OnGrid`.
    """

    taps: ClassVar[tuple[str, ...]] = ("res5",)

    width: int = 1024
    rate: int = 12
    dropout: float = 0.5
    corners: bool = False

    def __post_init__(self) -> None:
        _check("largefov", self.width, [self.rate], self.dropout)

    def make(self, levels: Sequence[Level], channels: int) -> nn.Module:
        level = only(levels, "largefov")
        layers = _field_of_view(level.channels, self.width, channels, self.rate, self.dropout)
        return _head(**layers, pixels=ToPixels(level.stride, corners=self.corners))


@dataclass(frozen=True)
class ASPPSum(HeadRecipe):
    """The atrous pyramid of DeepLab v2: LargeFOV heads of several rates, whose scores are added.

    Attributes:
        rates: dilations, in cells of the level.
        width: features of the two layers of each branch, as with VGG; 0 for dilated convolutions that score the level directly,
            as with ResNet.
        dropout: probability after each layer with features.
        corners: see `LargeFOV`.
    """

    taps: ClassVar[tuple[str, ...]] = ("res5",)

    rates: tuple[int, ...] = (6, 12, 18, 24)
    width: int = 0
    dropout: float = 0.5
    corners: bool = False

    def __post_init__(self) -> None:
        _check("aspp_sum", self.width, self.rates, self.dropout, may_be_none=True)

    def make(self, levels: Sequence[Level], channels: int) -> nn.Module:
        level = only(levels, "aspp_sum")
        return _head(
            pyramid=Added(self._branch(level.channels, channels, rate) for rate in self.rates),
            pixels=ToPixels(level.stride, corners=self.corners),
        )

    def _branch(self, channels: int, classes: int, rate: int) -> nn.Module:
        if not self.width:
            return score_layer(channels, classes, std=0.01, kernel=3, rate=rate)
        return nn.Sequential(OrderedDict(_field_of_view(channels, self.width, classes, rate, self.dropout)))


@dataclass(frozen=True)
class ASPP(HeadRecipe):
    """The atrous pyramid of DeepLab v3: a 1x1 and several dilated convolutions and the image's mean, concatenated and mixed.

    Attributes:
        rates: dilations of the 3x3 convolutions, in cells of the level: 6, 12, 18 for stride 16, twice that for stride 8.
        width: features of each branch and of their mixture.
        image_pooling: whether the mean over the image is among the branches. It has a bias and no norm: over a single pixel a
            norm leaves nothing, or fails on a batch of one.
        norm: "group" keeps images apart, so that rows can be split; "batch" is the paper's.
        dropout: probability before the scores.
        corners: see `LargeFOV`.
    """

    taps: ClassVar[tuple[str, ...]] = ("res5",)

    rates: tuple[int, ...] = (6, 12, 18)
    width: int = 256
    image_pooling: bool = True
    norm: NormKind = "group"
    dropout: float = 0.0
    corners: bool = False

    def __post_init__(self) -> None:
        _check("aspp", self.width, self.rates, self.dropout)

    def make(self, levels: Sequence[Level], channels: int) -> nn.Module:
        level, width = only(levels, "aspp"), self.width
        branches = [self._unit(level.channels, rate) for rate in (0, *self.rates)]
        if self.image_pooling:
            branches.append(ImageMean(level.channels, width))
        return _head(
            pyramid=Concatenated(branches),
            mixed=self._unit(width * len(branches), 0),
            score=nn.Sequential(nn.Dropout(self.dropout), score_layer(width, channels, std=0.01)),
            pixels=ToPixels(level.stride, corners=self.corners),
        )

    def _unit(self, channels: int, rate: int) -> nn.Module:
        """Convolution (1x1 for rate 0), norm, ReLU."""
        kernel = 3 if rate else 1
        layer = nn.Conv2d(channels, self.width, kernel, padding=rate, dilation=max(rate, 1), bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        return nn.Sequential(layer, make_norm(self.norm, self.width), nn.ReLU())


class Added(nn.ModuleList):
    """The sum of what its parts make of one level."""

    def forward(self, level: Tensor) -> Tensor:
        first, *others = self
        total: Tensor = first(level)
        for part in others:
            total = total + part(level)
        return total


class Concatenated(nn.ModuleList):
    """What its parts make of one level, along the channels."""

    def forward(self, level: Tensor) -> Tensor:
        return torch.cat([part(level) for part in self], dim=1)


class ImageMean(nn.Module):
    """Features of the mean over all cells, at every cell."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, width, 1)
        nn.init.kaiming_normal_(self.layer.weight, nonlinearity="relu")

    def forward(self, level: Tensor) -> Tensor:
        features: Tensor = self.layer(level.mean(dim=(-2, -1), keepdim=True)).relu()
        return features.expand(-1, -1, *level.shape[-2:])


def _head(**parts: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict({"level": OnlyLevel(), **parts}))


def _field_of_view(channels: int, width: int, classes: int, rate: int, dropout: float) -> dict[str, nn.Module]:
    """fc6, fc7 and scores of DeepLab-LargeFOV."""
    fc6 = nn.Conv2d(channels, width, 3, padding=rate, dilation=rate)
    fc7 = nn.Conv2d(width, width, 1)
    for layer in (fc6, fc7):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return {
        "fc6": nn.Sequential(fc6, nn.ReLU(), nn.Dropout(dropout)),
        "fc7": nn.Sequential(fc7, nn.ReLU(), nn.Dropout(dropout)),
        "score": score_layer(width, classes, std=0.01),
    }


def _check(head: str, width: int, rates: Sequence[int], dropout: float, *, may_be_none: bool = False) -> None:
    if width < (0 if may_be_none else 1) or not rates or min(rates) < 1 or not 0 <= dropout < 1:
        raise ConfigError(
            f"head {head!r} needs a positive width, one or more positive rates and a dropout from 0 to below 1; "
            f"given are width {width}, rates {list(rates)}, dropout {dropout}"
        )
