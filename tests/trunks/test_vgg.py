"""VGG-16 in its LargeFOV form against torchvision's names and numbers, and against a second implementation."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.trunks.vgg import VGG16

CHANNELS = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
"""VGG-16's layers; M is a pool."""

State = dict[str, Tensor]


def torchvision_shapes(batch_norm: bool) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of the features in torchvision's vgg16 and vgg16_bn files, by their rule."""
    shapes: dict[str, tuple[int, ...]] = {}
    index, source = 0, 3
    for channels in CHANNELS:
        if isinstance(channels, int):
            shapes |= {f"features.{index}.weight": (channels, source, 3, 3), f"features.{index}.bias": (channels,)}
            if batch_norm:
                names = ("weight", "bias", "running_mean", "running_var")
                shapes |= {f"features.{index + 1}.{name}": (channels,) for name in names}
                shapes[f"features.{index + 1}.num_batches_tracked"] = ()
            index, source = index + (3 if batch_norm else 2), channels
        else:
            index += 1
    return shapes


def reference(state: State, images: Tensor) -> dict[str, Tensor]:
    """The taps in eval mode without batch norm, from a state alone: DeepLab-LargeFOV."""
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    value, taps, index, group = (images - mean) / std, {}, 0, 1
    for position, channels in enumerate(CHANNELS):
        if channels == "M":
            value, index, group = F.max_pool2d(value, 3, 2 if group < 4 else 1, 1), index + 1, group + 1
            continue
        dilation = 2 if group == 5 else 1
        weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
        value, index = F.relu(F.conv2d(value, weight, bias, padding=dilation, dilation=dilation)), index + 2
        if CHANNELS[position + 1] == "M":
            taps[f"conv{group}_{2 if group < 3 else 3}"] = value
    value = F.avg_pool2d(value, 3, 1, 1)
    value = F.relu(F.conv2d(value, state["fc6.weight"], state["fc6.bias"], padding=12, dilation=12))
    return taps | {"fc7": F.relu(F.conv2d(value, state["fc7.weight"], state["fc7.bias"]))}


def narrow_file(trunk: VGG16, *, classifier: bool) -> State:
    """A file in torchvision's naming for `trunk`'s width of one eighth."""
    state = {
        key: torch.rand(value.shape).to(value.dtype) for key, value in trunk.state_dict().items() if key.startswith("features")
    }
    sizes = {"classifier.0": (512, 64 * 49), "classifier.3": (512, 512), "classifier.6": (1000, 512)} if classifier else {}
    for name, size in sizes.items():
        state |= {f"{name}.weight": torch.randn(size), f"{name}.bias": torch.randn(size[0])}
    return state


@pytest.mark.parametrize("batch_norm", [False, True])
def test_features_are_torchvisions(batch_norm: bool) -> None:
    """Keys and shapes are those of torchvision's files."""
    with torch.device("meta"):
        trunk = VGG16(batch_norm=batch_norm, fc=False)
    assert {key: tuple(value.shape) for key, value in trunk.state_dict().items()} == torchvision_shapes(batch_norm)


def test_published_numbers_of_parameters() -> None:
    """The features have 138,357,544 parameters with VGG-16's classifier, and LargeFOV's 20.48 million with fc6 and fc7."""
    with torch.device("meta"):
        trunk = VGG16()
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in trunk.named_children()}
    classifier = sum((inputs + 1) * outputs for inputs, outputs in [(512 * 49, 4096), (4096, 4096), (4096, 1000)])
    assert count["features"] + classifier == 138_357_544
    assert count["features"] + count["fc6"] + count["fc7"] == 20_483_904


def test_taps_against_a_second_implementation() -> None:
    """Every native tap is what LargeFOV's definition gives for the same state, after ReLU and before pooling."""
    trunk, images = VGG16(width=0.125).double().eval(), torch.rand(1, 3, 65, 96).double()
    with torch.no_grad():
        outputs, expected = trunk(images), reference(trunk.state_dict(), images)
    assert set(expected) == {"conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "fc7"}
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value)


def test_strides_of_the_taps() -> None:
    """Two pools less than VGG: from conv4 on the stride is 8."""
    taps = VGG16(width=0.125).taps
    strides = {name: taps[name].stride for name in ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "fc7")}
    assert strides == {"conv1_2": 1, "conv2_2": 2, "conv3_3": 4, "conv4_3": 8, "conv5_3": 8, "fc7": 8}


@pytest.mark.parametrize(("fc", "last"), [(True, "fc7"), (False, "conv5_3")])
def test_common_taps(fc: bool, last: str) -> None:
    """res2 to res5 are the outputs that have these strides in VGG without dilation."""
    taps = VGG16(width=0.125, fc=fc).taps
    assert [taps[name].stage for name in ("res2", "res3", "res4", "res5")] == ["conv3_3", "conv4_3", "conv5_3", last]


def test_average_pool_is_optional() -> None:
    """Without the average pool fc6 reads pool5 itself."""
    stages = VGG16(width=0.125, average_pool=False).eval().stages()
    value = torch.rand(1, 64, 9, 9)
    conv = stages["fc6"].conv
    assert torch.equal(stages["fc6"](value), F.relu(conv(F.max_pool2d(value, 3, 1, 1))))


def test_fully_connected_layers_are_decimated(tmp_path: Path) -> None:
    """fc6 takes every 4th output and rows and columns 0, 3, 6 of the 7x7 windows; fc7 a quarter of both sides, times 4."""
    state = narrow_file(VGG16(width=0.125), classifier=True)
    torch.save(state, tmp_path / "vgg.pth")
    trunk = VGG16(width=0.125, weights=str(tmp_path / "vgg.pth")).state_dict()
    fc6, fc7 = state["classifier.0.weight"], state["classifier.3.weight"]
    for out, source, row, column in [(0, 0, 0, 0), (5, 3, 1, 2), (127, 63, 2, 2)]:
        assert trunk["fc6.weight"][out, source, row, column] == fc6[4 * out, 49 * source + 7 * 3 * row + 3 * column]
    for out, source in [(0, 0), (3, 100), (127, 127)]:
        assert trunk["fc7.weight"][out, source, 0, 0] == 4 * fc7[4 * out, 4 * source]
    assert torch.equal(trunk["fc6.bias"], state["classifier.0.bias"][0::4])
    assert torch.equal(trunk["fc7.bias"], state["classifier.3.bias"][0::4])
    assert torch.equal(trunk["features.28.weight"], state["features.28.weight"])


def test_file_without_classifier_says_so(tmp_path: Path) -> None:
    """Features alone may be loaded; that fc6 and fc7 stay random is said aloud."""
    state = narrow_file(VGG16(width=0.125), classifier=False)
    torch.save(state, tmp_path / "features.pth")
    with pytest.warns(UserWarning, match="fc6 and fc7 start at random"):
        trunk = VGG16(width=0.125, weights=str(tmp_path / "features.pth"))
    assert torch.equal(trunk.state_dict()["features.0.weight"], state["features.0.weight"])


@pytest.mark.parametrize("batch_norm", [False, True])
def test_classifier_is_dropped_without_fc(batch_norm: bool, tmp_path: Path) -> None:
    """A whole file fits a trunk that has features only, without a word."""
    state = narrow_file(VGG16(width=0.125, batch_norm=batch_norm), classifier=True)
    torch.save(state, tmp_path / "vgg.pth")
    trunk = VGG16(width=0.125, batch_norm=batch_norm, fc=False, weights=str(tmp_path / "vgg.pth")).state_dict()
    assert all(torch.equal(trunk[key], state[key]) for key in trunk)


def test_own_state_is_loaded_as_it_is(tmp_path: Path) -> None:
    """A file saved from such a trunk, which has fc6 and fc7, comes back whole."""
    trunk = VGG16(width=0.125)
    torch.save(trunk.state_dict(), tmp_path / "own.pth")
    again = VGG16(width=0.125, weights=str(tmp_path / "own.pth")).state_dict()
    assert all(torch.equal(again[key], value) for key, value in trunk.state_dict().items())
