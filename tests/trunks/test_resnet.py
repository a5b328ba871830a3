"""Residual networks against torchvision's names and numbers, and against a second implementation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.trunks.resnet import ResNet, ResNet18, ResNet34, ResNet50

DEPTHS = {ResNet18: (2, 2, 2, 2), ResNet34: (3, 4, 6, 3), ResNet50: (3, 4, 6, 3)}
NORM = ("weight", "bias", "running_mean", "running_var")

State = dict[str, Tensor]


def torchvision_shapes(kind: type[ResNet]) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of torchvision's published files of `kind`, by their rule."""
    bottleneck = kind is ResNet50
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(conv: str, norm: str, target: int, source: int, size: int) -> None:
        shapes[f"{conv}.weight"] = (target, source, size, size)
        shapes.update({f"{norm}.{name}": (target,) for name in NORM})
        shapes[f"{norm}.num_batches_tracked"] = ()

    unit("conv1", "bn1", 64, 3, 7)
    source = 64
    for layer, depth in enumerate(DEPTHS[kind], start=1):
        inner = 64 * 2 ** (layer - 1)
        for block in range(depth):
            name, target = f"layer{layer}.{block}", inner * (4 if bottleneck else 1)
            sizes = (
                [(source, inner, 1), (inner, inner, 3), (inner, target, 1)]
                if bottleneck
                else [(source, inner, 3), (inner, inner, 3)]
            )
            for index, (before, after, size) in enumerate(sizes, start=1):
                unit(f"{name}.conv{index}", f"{name}.bn{index}", after, before, size)
            if block == 0 and source != target:
                unit(f"{name}.downsample.0", f"{name}.downsample.1", target, source, 1)
            source = target
    return shapes | {"fc.weight": (1000, source), "fc.bias": (1000,)}


def reference(state: State, images: Tensor, kind: type[ResNet]) -> Tensor:
    """The last features in eval mode, from a state in torchvision's naming alone."""

    def unit(value: Tensor, conv: str, norm: str, stride: int, padding: int) -> Tensor:
        value = F.conv2d(value, state[f"{conv}.weight"], stride=stride, padding=padding)
        weight, bias, mean, var = (state[f"{norm}.{name}"].view(-1, 1, 1) for name in NORM)
        return (value - mean) / torch.sqrt(var + 1e-5) * weight + bias

    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    value = F.max_pool2d(F.relu(unit((images - mean) / std, "conv1", "bn1", 2, 3)), 3, 2, 1)
    for layer, depth in enumerate(DEPTHS[kind], start=1):
        for block in range(depth):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            strides = {ResNet50: [(1, 0), (stride, 1), (1, 0)]}.get(kind, [(stride, 1), (1, 1)])
            out = value
            for index, (step, padding) in enumerate(strides, start=1):
                out = unit(out if index == 1 else F.relu(out), f"{name}.conv{index}", f"{name}.bn{index}", step, padding)
            if f"{name}.downsample.0.weight" in state:
                value = unit(value, f"{name}.downsample.0", f"{name}.downsample.1", stride, 0)
            value = F.relu(out + value)
    return value


def varied(trunk: ResNet) -> ResNet:
    """`trunk` in eval mode with statistics and norm parameters that are not those of a fresh one."""
    with torch.no_grad():
        for name, tensor in trunk.state_dict().items():
            if name.endswith("running_var") or ("bn" in name and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bias")):
                tensor.uniform_(-0.2, 0.2)
    return trunk.eval()


@pytest.mark.parametrize(("kind", "parameters"), [(ResNet18, 11_689_512), (ResNet34, 21_797_672), (ResNet50, 25_557_032)])
def test_state_is_torchvisions(kind: type[ResNet], parameters: int) -> None:
    """With a classifier, keys and shapes are those of torchvision's files, and the parameters as many as published."""
    with torch.device("meta"):
        trunk = kind(classifier=True)
    assert {key: tuple(value.shape) for key, value in trunk.state_dict().items()} == torchvision_shapes(kind)
    assert sum(parameter.numel() for parameter in trunk.parameters()) == parameters


@pytest.mark.parametrize("kind", DEPTHS)
def test_features_against_a_second_implementation(kind: type[ResNet]) -> None:
    """The features are those that torchvision's definition gives for the same state."""
    trunk, images = varied(kind(width=0.25)).double(), torch.rand(2, 3, 65, 96).double()
    with torch.no_grad():
        torch.testing.assert_close(trunk(images)["res5"], reference(trunk.state_dict(), images, kind))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("kind", [ResNet18, ResNet50])
def test_dilation_keeps_the_features(kind: type[ResNet], output_stride: int) -> None:
    """Dilation in place of a stride gives the same features at the positions that the stride had kept, from the same state."""
    plain, images = varied(kind(width=0.125)).double(), torch.rand(1, 3, 97, 65).double()
    dilated = kind(width=0.125, output_stride=output_stride).double().eval()
    dilated.load_state_dict(plain.state_dict())
    with torch.no_grad():
        coarse, fine = plain(images), dilated(images)
    for name, tap in plain.taps.items():
        step = tap.stride // dilated.taps[name].stride
        assert dilated.taps[name].stride == min(tap.stride, output_stride)
        torch.testing.assert_close(fine[name][..., ::step, ::step], coarse[name])


def test_width_multiplies_the_channels() -> None:
    """At half width every tap has half of the published channels."""
    taps = ResNet18(width=0.5).taps
    assert [taps[name].channels for name in ("res2", "res3", "res4", "res5")] == [32, 64, 128, 256]


def test_one_stage_per_block() -> None:
    """The stages are the stem and the blocks, numbered within their resolution, and the last of each is tapped."""
    trunk = ResNet18(width=0.125)
    blocks = [f"res{level}.{block}" for level in (2, 3, 4, 5) for block in (0, 1)]
    assert list(trunk.stages()) == ["stem", *blocks]
    assert [trunk.taps[f"res{level}"].stage for level in (2, 3, 4, 5)] == blocks[1::2]


def test_group_norm_does_not_couple_images() -> None:
    """With group norm an image's features in training mode are the same alone and in a batch, and nothing is buffered."""
    trunk, images = ResNet18(width=0.25, norm="group").double().train(), torch.rand(3, 3, 64, 64).double()
    with torch.no_grad():
        torch.testing.assert_close(trunk(images)["res5"][1:2], trunk(images[1:2])["res5"])
    assert not [key for key in trunk.state_dict() if "running" in key]


def test_frozen_norm_has_batch_norms_keys() -> None:
    """With frozen norms the same files fit, training mode gives the features of eval mode, and only convolutions learn."""
    trunk, images = varied(ResNet18(width=0.25, norm="frozen")), torch.rand(2, 3, 64, 64)
    assert trunk.state_dict().keys() == ResNet18(width=0.25).state_dict().keys()
    with torch.no_grad():
        expected = trunk(images)["res5"]
        assert torch.equal(trunk.train()(images)["res5"], expected)
    assert {parameter.ndim for parameter in trunk.parameters() if parameter.requires_grad} == {4}


def test_classify_pools_the_last_features() -> None:
    """Logits are the classifier's on the mean of the last features."""
    trunk, images = ResNet18(width=0.125, classifier=True).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        pooled = F.adaptive_avg_pool2d(trunk(images)["res5"], 1).flatten(1)
        expected = pooled @ trunk.state_dict()["fc.weight"].T + trunk.state_dict()["fc.bias"]
        torch.testing.assert_close(trunk.classify(images), expected)
