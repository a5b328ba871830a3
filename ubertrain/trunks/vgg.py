"""VGG-16 (Simonyan and Zisserman 2015) as a dense feature extractor, in its DeepLab-LargeFOV form."""

import warnings
from collections.abc import Sequence

from torch import Tensor, nn

from ubertrain.trunks.trunk import IMAGENET_MEAN, IMAGENET_STD, Stage, StageSequence, Tap, Trunk, initialise, scaled

_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_POOL_STRIDES = (2, 2, 2, 1, 1)


class VGG16(Trunk):
    """Output stride 8: pool4 and pool5 have stride 1, conv5 is dilated by 2, and fc6 and fc7 are convolutions of 1024 channels.

    This is the trunk of UberNet (Kokkinos 2017) and of DeepLab (Chen et al. 2015): fc6 is 3x3 dilated by 12, fc7 is 1x1. All
    pools are 3x3. One stage per convolution, with its ReLU and the pool before it: "conv1_1", ..., "conv5_3", "fc6", "fc7".
    Taps: "conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3" (after ReLU, before pooling) and "fc7", also as "res2" to
    "res5" (conv3_3, conv4_3, conv5_3 and the last).

    Files are torchvision's vgg16 or vgg16_bn. If such a file has its classifier, fc6 and fc7 start from its first two layers,
    decimated: every 4th output, fc6's 7x7 windows at rows and columns 0, 3 and 6, and fc7, which then sees a quarter of its
    inputs, times 4. If it has none, fc6 and fc7 keep their random start, with a warning.

    Args:
        batch_norm: whether every convolution before fc6 is followed by batch norm, as in vgg16_bn.
        fc: whether to have fc6 and fc7.
        average_pool: whether a 3x3 average with stride 1 follows pool5.
        dropout: probability after fc6 and fc7.
        width: multiple of the published numbers of channels.
        frozen: stages or groups of stages that do not learn, e.g. ["conv1", "conv2_1"].
        weights: path of a torch or safetensors file in torchvision's naming.

    Raises:
        ConfigError: an argument is none of the above, or the file does not fit.
    """

    classifier_keys = ("classifier.",)

    def __init__(
        self,
        *,
        batch_norm: bool = False,
        fc: bool = True,
        average_pool: bool = True,
        dropout: float = 0.5,
        width: float = 1.0,
        frozen: Sequence[str] = (),
        weights: str | None = None,
    ) -> None:
        super().__init__(IMAGENET_MEAN, IMAGENET_STD)
        stages: dict[str, Stage] = {}
        taps: dict[str, Tap] = {}
        layers: list[nn.Module] = []
        before: dict[str, nn.Module] = {"normalise": self.normalise}
        source, stride = 3, 1
        for group, widths in enumerate(_CHANNELS, start=1):
            for position, published in enumerate(widths, start=1):
                unit = _unit(source, scaled(published, width), dilation=2 if group == 5 else 1, batch_norm=batch_norm)
                stages[f"conv{group}_{position}"] = StageSequence(**before, **unit)
                layers += unit.values()
                source, before = scaled(published, width), {}
            taps[f"conv{group}_{position}"] = Tap(f"conv{group}_{position}", source, stride)
            before = {"pool": nn.MaxPool2d(3, stride=_POOL_STRIDES[group - 1], padding=1)}
            layers += before.values()
            stride *= _POOL_STRIDES[group - 1]
        self.features = nn.Sequential(*layers)  # indexed as in torchvision; the last pool belongs to fc6
        if fc:
            channels = scaled(1024, width)
            self.fc6 = nn.Conv2d(source, channels, 3, padding=12, dilation=12)
            self.fc7 = nn.Conv2d(channels, channels, 1)
            if average_pool:
                before["average"] = nn.AvgPool2d(3, stride=1, padding=1)
            stages["fc6"] = StageSequence(**before, conv=self.fc6, relu=nn.ReLU(inplace=True), dropout=nn.Dropout(dropout))
            stages["fc7"] = StageSequence(conv=self.fc7, relu=nn.ReLU(inplace=True), dropout=nn.Dropout(dropout))
            taps["fc7"] = Tap("fc7", channels, stride)
        aliases = {"res2": "conv3_3", "res3": "conv4_3", "res4": "conv5_3", "res5": "fc7" if fc else "conv5_3"}
        initialise(self)
        self.complete(stages, taps | {name: taps[tap] for name, tap in aliases.items()}, frozen=frozen, weights=weights)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        own = {key: value for key, value in self.state_dict().items() if key.startswith(("fc6.", "fc7."))}
        if own and not any(key in state for key in own):
            state = state | (_decimated(state) if "classifier.0.weight" in state else self._fresh(own))
        return super().translate(state)

    def _fresh(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        warnings.warn("VGG16: the file of weights has no classifier, so fc6 and fc7 start at random", stacklevel=2)
        return own


def _unit(source: int, target: int, *, dilation: int, batch_norm: bool) -> dict[str, nn.Module]:
    """A 3x3 convolution and what follows it; the ReLU changes only what the unit itself made."""
    unit: dict[str, nn.Module] = {"conv": nn.Conv2d(source, target, 3, padding=dilation, dilation=dilation)}
    if batch_norm:
        unit["bn"] = nn.BatchNorm2d(target)
    return unit | {"relu": nn.ReLU(inplace=True)}


def _decimated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """fc6 and fc7 from the fully connected layers of a VGG classifier over 7x7 windows (Chen et al. 2015, section 3.2)."""
    fc6, fc7 = state["classifier.0.weight"], state["classifier.3.weight"]
    windows = fc6.reshape(len(fc6), -1, 7, 7)
    return {
        "fc6.weight": windows[::4, :, ::3, ::3],
        "fc6.bias": state["classifier.0.bias"][::4],
        "fc7.weight": 4 * fc7[::4, ::4, None, None],
        "fc7.bias": state["classifier.3.bias"][::4],
    }
