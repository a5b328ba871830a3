"""What every trunk must say about itself."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from ubertrain.errors import ConfigError
from ubertrain.trunks.weights import load_weights, read_weights

Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
"""The mean and standard deviation of ImageNet's RGB in [0, 1], with which torchvision's files were trained."""


class Tap(NamedTuple):
    """A trunk output that branches may read.

    Attributes:
        stage: the stage whose output it is.
        channels: of that output, (batch, channels, ceil(height / stride), ceil(width / stride)).
        stride: input pixels per feature pixel along a side.
    """

    stage: str
    channels: int
    stride: int


class Normalise(nn.Module):
    """RGB in [0, 1], (batch, 3, height, width), with `mean` and `std` taken out of each channel.

    The two are no part of the state: they belong to the architecture, and published files do not have them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Colour, std: Colour) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Stage(nn.Module):
    """One link of a trunk, which can be frozen.

    A frozen stage is one fixed function: no gradient for its parameters, and eval mode (running statistics that do not move,
    no dropout) whatever mode the model around it is put into. It keeps that to itself, since the engine holds stages, not
    trunks.
    """

    frozen: bool = False

    def freeze(self) -> None:
        """Make it a fixed function, for good."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, unless it is frozen."""
        return super().train(mode and not self.frozen)


class StageSequence(Stage, nn.Sequential):
    """A stage that calls the named `parts` in order."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__(OrderedDict(parts))


class Trunk(nn.Module):
    """The shared layers: an ordered chain of stages, and taps that name the outputs branches may read.

    The keywords of `__init__` are the keys the trunk accepts in YAML. Parameters carry their public names (torchvision's, or
    those of the published file), whatever the stages are called. The first stage takes RGB images in [0, 1], and normalises.
    Every trunk has the taps "res2" to "res5": its last outputs at stride 4, 8, 16 and 32, or the outputs that would have been
    at these strides where dilation replaces them.

    A subclass builds its layers and ends its `__init__` with `complete`.
    """

    taps: Mapping[str, Tap]
    classifier_keys: ClassVar[tuple[str, ...]] = ()
    """How the names begin that published files have for their classifier; they are dropped where the trunk has none."""

    def __init__(self, mean: Colour, std: Colour) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.taps = {}
        self._stages: dict[str, Stage] = {}  # a plain dict: the layers are registered once, under their public names

    def complete(
        self, stages: Mapping[str, Stage], taps: Mapping[str, Tap], *, frozen: Sequence[str], weights: str | None
    ) -> None:
        """Name the stages, in order, and the taps; load `weights`; freeze the stages or groups of stages in `frozen`.

        Raises:
            ConfigError: `weights` cannot be read or do not fit, or `frozen` names no stage.
        """
        self._stages, self.taps = dict(stages), dict(taps)
        if weights is not None:
            self.load(weights)
        for name in frozen:
            self._freeze(name)

    def stages(self) -> dict[str, nn.Module]:
        """The links of the chain in order, by name; each is called with the output of the one before, the first with images."""
        return dict(self._stages)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Every tap's output for `images`, (batch, 3, height, width) float, RGB in [0, 1]."""
        tapped = {tap.stage for tap in self.taps.values()}
        outputs, value = {}, images
        for name, stage in self._stages.items():
            value = stage(value)
            if name in tapped:
                outputs[name] = value
        return {name: outputs[tap.stage] for name, tap in self.taps.items()}

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; frozen stages stay in eval mode."""
        super().train(mode)
        for stage in self._stages.values():  # a stage may only borrow its layers, so that the call above passes it by
            stage.train(mode)
        return self

    def load(self, weights: str) -> None:
        """Load a file of tensors (safetensors by suffix, else torch's), or "imagenet" where a package provides it.

        Raises:
            ConfigError: there is no such file or package, or its names or shapes are not those of this trunk; names them.
        """
        file = self.imagenet_file() if weights == "imagenet" else Path(weights)
        load_weights(self, self.translate(read_weights(file)), file)

    def imagenet_file(self) -> Path:
        """The file behind `weights: imagenet`.

        Raises:
            ConfigError: no package provides one, or it is not installed.
        """
        raise ConfigError(
            f"weights: no package provides ImageNet weights for {type(self).__name__}; "
            "give the path of a file in torchvision's naming instead of 'imagenet'"
        )

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A published file's tensors under this trunk's names, without a classifier that the trunk does not have."""
        own = self.state_dict()
        return {key: value for key, value in state.items() if key in own or not key.startswith(self.classifier_keys)}

    def _freeze(self, name: str) -> None:
        chosen = [stage for key, stage in self._stages.items() if name in (key, _group(key))]
        if not chosen:
            known = list(dict.fromkeys(part for key in self._stages for part in (_group(key), key)))
            raise ConfigError(f"frozen: {type(self).__name__} has no stage or group {name!r}; it has {', '.join(known)}")
        for stage in chosen:
            stage.freeze()


def _group(stage: str) -> str:
    """The group of a stage: "res2" of "res2.1", "conv1" of "conv1_2", "stem" of "stem"."""
    return stage.replace("_", ".").split(".")[0]


def scaled(channels: int, width: float) -> int:
    """`channels` times the width multiplier `width`, rounded to a multiple of 8 and at least 8; unchanged for width 1.

    Raises:
        ConfigError: `width` is not positive.
    """
    if not width > 0:
        raise ConfigError(f"width: expected a positive multiple of the published channels, not {width}")
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)


def require_stride(output_stride: int, allowed: Sequence[int]) -> None:
    """Raise `ConfigError` unless `output_stride` is among `allowed`."""
    if output_stride not in allowed:
        raise ConfigError(f"output_stride: expected {' or '.join(map(str, allowed))}, not {output_stride}")


def initialise(module: nn.Module) -> None:
    """Draw every convolution as for ReLU networks, with zero biases.

    Weights are normal with variance 2 / fan out (He et al. 2015), where a channel fans out within its group alone.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.out_channels // part.groups * math.prod(part.kernel_size)
            nn.init.normal_(part.weight, std=math.sqrt(2 / fan_out))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
