"""What holds for every trunk."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ubertrain.errors import ConfigError
from ubertrain.trunks.efficientnet_lite import EfficientNetLite0
from ubertrain.trunks.resnet import ResNet18, ResNet34, ResNet50
from ubertrain.trunks.trunk import Normalise, StageSequence, Trunk, initialise, scaled
from ubertrain.trunks.vgg import VGG16

TRUNKS: dict[str, Callable[..., Trunk]] = {
    "resnet18": lambda **more: ResNet18(width=0.25, **more),
    "resnet18-group": lambda **more: ResNet18(width=0.25, norm="group", **more),
    "resnet34-os16": lambda **more: ResNet34(width=0.125, output_stride=16, **more),
    "resnet50-os8": lambda **more: ResNet50(width=0.125, output_stride=8, **more),
    "vgg16": lambda **more: VGG16(width=0.125, **more),
    "vgg16-bn-dense": lambda **more: VGG16(width=0.125, batch_norm=True, fc=False, **more),
    "lite0": lambda **more: EfficientNetLite0(**more),
    "lite0-os16": lambda **more: EfficientNetLite0(output_stride=16, **more),
}
FIRST_GROUPS = {
    "resnet18": "stem",
    "resnet18-group": "stem",
    "resnet34-os16": "res2",
    "resnet50-os8": "res3",
    "vgg16": "conv1",
    "vgg16-bn-dense": "conv2",
    "lite0": "res2",
    "lite0-os16": "stem",
}

every_trunk = pytest.mark.parametrize("make", TRUNKS.values(), ids=TRUNKS)


@every_trunk
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 50)], ids=str)
def test_taps_are_as_declared(make: Callable[..., Trunk], size: tuple[int, int]) -> None:
    """A tap's output has the declared channels and ceil(size / stride) rows and columns, for even and odd sizes."""
    trunk = make().eval()
    with torch.no_grad():
        outputs = trunk(torch.rand(1, 3, *size))
    expected = {name: (1, tap.channels, *(math.ceil(side / tap.stride) for side in size)) for name, tap in trunk.taps.items()}
    assert {name: tuple(output.shape) for name, output in outputs.items()} == expected


@every_trunk
def test_every_trunk_has_the_common_taps(make: Callable[..., Trunk]) -> None:
    """res2 to res5 exist, and their strides never fall from one to the next."""
    taps = make().taps
    strides = [taps[name].stride for name in ("res2", "res3", "res4", "res5")]
    assert strides[0] == 4 and strides == sorted(strides)


@every_trunk
def test_stages_in_order_give_the_taps(make: Callable[..., Trunk]) -> None:
    """Calling each stage with the output of the one before gives exactly what the trunk gives at every tap."""
    trunk = make().eval()
    images = torch.rand(2, 3, 40, 48)
    with torch.no_grad():
        expected, value, outputs = trunk(images), images, {}
        for name, stage in trunk.stages().items():
            value = outputs[name] = stage(value)
    assert all(torch.equal(outputs[tap.stage], expected[name]) for name, tap in trunk.taps.items())


@every_trunk
def test_no_stage_changes_its_input(make: Callable[..., Trunk]) -> None:
    """A stage's input keeps its values, and its output is another tensor, so that a tap stays what its branches read."""
    value = torch.rand(2, 3, 64, 64)
    for name, stage in make().train().stages().items():
        before, output = value.clone(), stage(value)
        assert torch.equal(value, before) and output.data_ptr() != value.data_ptr(), name
        value = output


@every_trunk
def test_stages_hold_every_parameter_once(make: Callable[..., Trunk]) -> None:
    """The stages together have the trunk's parameters and saved buffers, each in one stage only."""
    trunk = make()
    held = [id(tensor) for stage in trunk.stages().values() for tensor in stage.state_dict(keep_vars=True).values()]
    assert sorted(held) == sorted(id(tensor) for tensor in trunk.state_dict(keep_vars=True).values())


@every_trunk
def test_same_seed_same_parameters(make: Callable[..., Trunk]) -> None:
    """The random start is decided by torch's seed."""
    torch.manual_seed(7)
    first, other = make().state_dict(), make().state_dict()
    torch.manual_seed(7)
    again = make().state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_trunk
def test_copy_stands_alone(make: Callable[..., Trunk]) -> None:
    """The stages of a deep copy run on the copy's parameters, not on the original's."""
    trunk, images = make().eval(), torch.rand(1, 3, 32, 32)
    twin = copy.deepcopy(trunk)
    with torch.no_grad():
        expected = trunk(images)["res5"]
        for parameter in trunk.parameters():
            parameter.zero_()
        assert torch.equal(twin(images)["res5"], expected) and not torch.equal(trunk(images)["res5"], expected)


@every_trunk
def test_runs_on_fake_tensors(make: Callable[..., Trunk]) -> None:
    """Shapes can be had without computing anything, in training mode too."""
    with FakeTensorMode():
        trunk = make().train()
        outputs = trunk(torch.rand(2, 3, 65, 97))
    assert outputs["res5"].shape[1:] == (trunk.taps["res5"].channels, *(-(-n // trunk.taps["res5"].stride) for n in (65, 97)))


@every_trunk
def test_normalisation_is_no_part_of_the_state(make: Callable[..., Trunk]) -> None:
    """Published files fit: mean and standard deviation have no key, but move with the trunk to another type."""
    trunk = make()
    assert not any("normalise" in key for key in trunk.state_dict())
    assert next(iter(trunk.double().stages().values())).normalise.mean.dtype == torch.float64


@pytest.mark.parametrize("through", ["stages", "trunk"])
@pytest.mark.parametrize("name", TRUNKS)
def test_frozen_group_learns_nothing(name: str, through: str) -> None:
    """In training mode a frozen group takes no gradient and moves no buffer, however the mode was set; the others do learn."""
    group = FIRST_GROUPS[name]
    trunk = TRUNKS[name](frozen=[group])
    stages = trunk.stages()
    (trunk if through == "trunk" else nn.ModuleList(stages.values())).train()
    before = {key: {k: v.clone() for k, v in stage.named_buffers()} for key, stage in stages.items()}
    value = torch.rand(2, 3, 64, 64)
    for stage in stages.values():
        value = stage(value)
    value.sum().backward()
    for key, stage in stages.items():
        frozen = key.replace("_", ".").split(".")[0] == group
        assert all((parameter.grad is None) == frozen for parameter in stage.parameters()), key
        tracked = {k: v for k, v in stage.named_buffers() if k.endswith(("running_mean", "num_batches_tracked"))}
        assert all(torch.equal(v, before[key][k]) == frozen for k, v in tracked.items()), key


def test_frozen_stage_is_one_function() -> None:
    """A frozen stage gives the same in training and eval mode: dropout is off as well."""
    stage = VGG16(width=0.125, frozen=["fc6"]).stages()["fc6"]
    value = torch.rand(1, 64, 8, 8)
    assert torch.equal(stage.train()(value), stage.eval()(value))


def test_frozen_takes_single_stages() -> None:
    """A stage's own name freezes that stage alone."""
    stages = ResNet18(width=0.25, frozen=["res2.1"]).stages()
    assert [name for name, stage in stages.items() if not any(p.requires_grad for p in stage.parameters())] == ["res2.1"]


def test_unknown_frozen_name() -> None:
    """A name that is neither a stage nor a group is refused, and the message lists those that are."""
    with pytest.raises(
        ConfigError, match=r"frozen: ResNet18 has no stage or group 'res6'; it has stem, res2, res2\.0, res2\.1"
    ):
        ResNet18(width=0.125, frozen=["stem", "res6"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet18(output_stride=4), "output_stride: expected 8 or 16 or 32, not 4"),
        (lambda: EfficientNetLite0(output_stride=8), "output_stride: expected 16 or 32, not 8"),
        (lambda: ResNet18(norm="layer"), "norm: expected batch, group or frozen, not 'layer'"),  # type: ignore[arg-type]
        (lambda: VGG16(width=0), "width: expected a positive multiple"),
        (lambda: VGG16(width=0.125, weights="imagenet"), "no package provides ImageNet weights for VGG16"),
        (lambda: ResNet18(width=0.125).classify(torch.rand(1, 3, 32, 32)), "the trunk has no classifier"),
        (lambda: EfficientNetLite0().classify(torch.rand(1, 3, 32, 32)), "the trunk has no classifier"),
    ],
)
def test_refused_arguments(make: Callable[[], object], message: str) -> None:
    """A value that a trunk does not have is refused by the name of its key."""
    with pytest.raises(ConfigError, match=message):
        make()


def test_normalise_against_its_definition() -> None:
    """The mean becomes 0 and one standard deviation above it 1, channel by channel."""
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    normalise = Normalise(mean, std)
    colours = torch.tensor([mean, [m + s for m, s in zip(mean, std, strict=True)]]).view(2, 3, 1, 1)
    expected = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    torch.testing.assert_close(normalise(colours), expected)


def test_stage_thaws_never() -> None:
    """Asking a frozen stage, or what holds it, for training mode leaves it and all its parts in eval mode."""
    stage = StageSequence(conv=nn.Conv2d(3, 4, 1), bn=nn.BatchNorm2d(4))
    stage.freeze()
    nn.Sequential(nn.Sequential(stage)).train()
    assert not any(part.training for part in stage.modules())


@pytest.mark.parametrize(("groups", "size", "deviation"), [(1, 3, (2 / (9 * 512)) ** 0.5), (512, 5, (2 / 25) ** 0.5)])
def test_initialise(groups: int, size: int, deviation: float) -> None:
    """Weights have variance 2 / fan out, which for a depthwise convolution is its window alone; biases are zero."""
    conv = nn.Conv2d(512, 512, size, groups=groups)
    initialise(nn.Sequential(conv))
    assert conv.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert not conv.bias.any()


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(64, 1.0, 64), (20, 1.0, 20), (64, 0.5, 32), (64, 0.3, 16), (64, 0.01, 8), (512, 2.0, 1024)],
)
def test_scaled(channels: int, width: float, expected: int) -> None:
    """The published number at width 1; else a multiple of 8, and at least 8."""
    assert scaled(channels, width) == expected
