"""Residual networks (He et al. 2016) with torchvision's parameter names, and dilation in place of strides."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.errors import ConfigError
from ubertrain.trunks.norm import NormKind, make_norm
from ubertrain.trunks.trunk import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Stage,
    StageSequence,
    Tap,
    Trunk,
    initialise,
    require_stride,
    scaled,
)


def _conv(source: int, target: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (size // 2)
    return nn.Conv2d(source, target, size, stride=stride, padding=padding, dilation=dilation, bias=False)


class Block(Stage, ABC):
    """relu(residual(x) + shortcut(x)), where the shortcut is a 1x1 convolution if stride or channels change.

    Args of subclasses:
        source: channels of the input.
        channels: inner channels; the output has `expansion` times as many.
        stride: 1 or 2.
        dilations: of the first 3x3 convolution, which carries the stride, and of those after it. They differ in a block whose
            stride dilation replaces: its first convolution still reads the undilated grid.
        norm: kind of normalisation.
    """

    expansion: ClassVar[int] = 1

    def __init__(self, source: int, channels: int, stride: int, dilations: tuple[int, int], norm: NormKind) -> None:
        super().__init__()
        self.build(source, channels, stride, dilations, norm)
        target = channels * self.expansion
        changes = stride != 1 or source != target
        self.downsample = nn.Sequential(_conv(source, target, 1, stride), make_norm(norm, target)) if changes else None

    @abstractmethod
    def build(self, source: int, channels: int, stride: int, dilations: tuple[int, int], norm: NormKind) -> None:
        """Make the layers of the residual."""

    @abstractmethod
    def residual(self, value: Tensor) -> Tensor:
        """What is added to the shortcut; a tensor of its own, which is then changed in place."""

    def forward(self, value: Tensor) -> Tensor:
        out = self.residual(value)
        out += value if self.downsample is None else self.downsample(value)
        return F.relu(out, inplace=True)


class BasicBlock(Block):
    """Two 3x3 convolutions (ResNet-18 and 34)."""

    def build(self, source: int, channels: int, stride: int, dilations: tuple[int, int], norm: NormKind) -> None:
        self.conv1 = _conv(source, channels, 3, stride, dilations[0])
        self.bn1 = make_norm(norm, channels)
        self.conv2 = _conv(channels, channels, 3, 1, dilations[1])
        self.bn2 = make_norm(norm, channels)

    def residual(self, value: Tensor) -> Tensor:
        value = F.relu(self.bn1(self.conv1(value)), inplace=True)
        return self.bn2(self.conv2(value))


class Bottleneck(Block):
    """1x1, 3x3, 1x1 convolutions with the stride in the 3x3, as torchvision has it (ResNet-50)."""

    expansion = 4

    def build(self, source: int, channels: int, stride: int, dilations: tuple[int, int], norm: NormKind) -> None:
        self.conv1 = _conv(source, channels, 1)
        self.bn1 = make_norm(norm, channels)
        self.conv2 = _conv(channels, channels, 3, stride, dilations[0])
        self.bn2 = make_norm(norm, channels)
        self.conv3 = _conv(channels, channels * self.expansion, 1)
        self.bn3 = make_norm(norm, channels * self.expansion)

    def residual(self, value: Tensor) -> Tensor:
        value = F.relu(self.bn1(self.conv1(value)), inplace=True)
        value = F.relu(self.bn2(self.conv2(value)), inplace=True)
        return self.bn3(self.conv3(value))


class ResNet(Trunk):
    """The stem and one stage per block: "stem", "res2.0", "res2.1", ..., "res5.1". Taps: "res2" to "res5".

    Args:
        output_stride: 32; 16 or 8 replace the last one or two strides by dilation (Chen et al. 2017): the same parameters, and
            the same features on a finer grid.
        norm: "batch"; "group", which does not couple images; or "frozen", batch norm as a fixed affine map.
        width: multiple of the published numbers of channels.
        classifier: whether to have ImageNet's classifier too, for `classify`.
        frozen: stages or groups of stages that do not learn, e.g. ["stem", "res2"].
        weights: path of a torch or safetensors file in torchvision's naming.

    Raises:
        ConfigError: an argument is none of the above, or the file does not fit.
    """

    block: ClassVar[type[Block]]
    depths: ClassVar[tuple[int, int, int, int]]
    classifier_keys = ("fc.",)

    def __init__(
        self,
        *,
        output_stride: int = 32,
        norm: NormKind = "batch",
        width: float = 1.0,
        classifier: bool = False,
        frozen: Sequence[str] = (),
        weights: str | None = None,
    ) -> None:
        super().__init__(IMAGENET_MEAN, IMAGENET_STD)
        require_stride(output_stride, (8, 16, 32))
        channels = scaled(64, width)
        self.conv1 = _conv(3, channels, 7, stride=2)
        self.bn1 = make_norm(norm, channels)
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        stem = StageSequence(normalise=self.normalise, conv1=self.conv1, bn1=self.bn1, relu=nn.ReLU(inplace=True), maxpool=pool)
        stages: dict[str, Stage] = {"stem": stem}
        taps: dict[str, Tap] = {}
        stride, dilation = 4, 1
        for index, depth in enumerate(self.depths):
            step, before = (1 if index == 0 else 2), dilation
            if stride * step > output_stride:
                step, dilation = 1, dilation * step
            stride *= step
            inner = scaled(64 * 2**index, width)
            blocks = self._blocks(channels, inner, depth, step, (before, dilation), norm)
            channels = inner * self.block.expansion
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            stages |= {f"res{index + 2}.{position}": block for position, block in enumerate(blocks)}
            taps[f"res{index + 2}"] = Tap(f"res{index + 2}.{depth - 1}", channels, stride)
        self.fc = nn.Linear(channels, 1000) if classifier else None
        initialise(self)
        self.complete(stages, taps, frozen=frozen, weights=weights)

    def _blocks(
        self, source: int, channels: int, depth: int, stride: int, dilations: tuple[int, int], norm: NormKind
    ) -> list[Block]:
        """`depth` blocks; the first has the stride and the change of dilation."""
        target, after = channels * self.block.expansion, (dilations[1], dilations[1])
        first = self.block(source, channels, stride, dilations, norm)
        return [first, *(self.block(target, channels, 1, after, norm) for _ in range(depth - 1))]

    def classify(self, images: Tensor) -> Tensor:
        """ImageNet logits, (batch, 1000), of RGB images in [0, 1].

        Raises:
            ConfigError: the trunk was not built with `classifier=True`.
        """
        if self.fc is None:
            raise ConfigError("classify: the trunk has no classifier; build it with classifier=True")
        return self.fc(self(images)["res5"].mean(dim=(2, 3)))


class ResNet18(ResNet):
    """11.2 million parameters without classifier."""

    block, depths = BasicBlock, (2, 2, 2, 2)


class ResNet34(ResNet):
    """21.3 million parameters without classifier."""

    block, depths = BasicBlock, (3, 4, 6, 3)


class ResNet50(ResNet):
    """23.5 million parameters without classifier."""

    block, depths = Bottleneck, (3, 4, 6, 3)
