"""Heads by name: what YAML may say, and what every head of a dense task must keep."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.engine.sequential import is_its_children
from ubertrain.errors import ConfigError
from ubertrain.ops.grid import OnGrid
from ubertrain.tasks.heads import HEADS, Choice
from ubertrain.tasks.segmentation import Segmentation
from ubertrain.testing import check_task

VGG = {"conv1_2": 1, "conv2_2": 2, "conv3_3": 4, "conv4_3": 8, "conv5_3": 8, "fc7": 8}
LEVELS = {tap: Level(8 + 4 * place, stride) for place, (tap, stride) in enumerate(VGG.items())}

CHOICES: list[Choice] = [
    "fusion",
    {"type": "fusion", "width": 0, "fusion": "sum"},
    "fcn32",
    "fcn16",
    {"type": "fcn8", "scales": [0.1, 0.5, 1]},
    {"type": "fcn8", "upsampling": "fixed", "width": 16},
    {"type": "fcn8", "upsampling": "all"},
    {"type": "largefov", "width": 16, "rate": 2},
    {"type": "aspp_sum", "corners": True},
    {"type": "aspp_sum", "width": 8},
    {"type": "aspp", "width": 16},
    {"type": "aspp", "width": 16, "norm": "batch", "dropout": 0.1, "image_pooling": False},
    "ubernet",
    {"type": "ubernet", "stride": 2, "all_normalised": True},
]
every_head = pytest.mark.parametrize("head", CHOICES, ids=str)


def _made(head: Choice) -> tuple[nn.Module, list[Tensor], int]:
    """A head of four classes, levels of a 64 x 96 image, and the stride of the finest."""
    task = Segmentation(classes=4, head=head)
    fallback = {f"res{place}": Level(8 + place, 2**place) for place in range(2, 6)}
    described = [(LEVELS | fallback)[tap] for tap in task.taps]
    levels = [torch.randn(2, channels, -(-64 // stride), -(-96 // stride)) for channels, stride in described]
    return task.make_head(described), levels, min(level.stride for level in described)


@every_head
def test_a_segmentation_with_it_keeps_the_contract(head: Choice) -> None:
    """Of tasks, as `check_task` states it."""
    check_task(Segmentation(classes=3, head=head), levels=LEVELS)


@every_head
def test_eval_mode_enlarges_what_training_mode_gives(head: Choice) -> None:
    """With random parameters, and without dropout and batches in between; both cover the image but for a stride."""
    made, levels, _ = _made(head)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d | nn.Dropout):
            part.eval()
            part.train = lambda mode=True, part=part: part  # type: ignore[method-assign, misc, assignment]
    trained, answered = made.train()(levels), made.eval()(levels)
    pixels = trained.pixels() if isinstance(trained, OnGrid) else trained
    torch.testing.assert_close(answered, pixels)
    assert answered.std() > 0
    assert all(abs(side - wanted) < 32 for side, wanted in zip(answered.shape[-2:], (64, 96), strict=True))


@every_head
def test_scores_have_32_bits_in_autocast(head: Choice) -> None:
    """In both modes, whatever the layers compute in."""
    made, levels, _ = _made(head)
    with torch.autocast("cpu", torch.bfloat16):
        both = [made.train()(levels), made.eval()(levels)]
    assert {(scores.values if isinstance(scores, OnGrid) else scores).dtype for scores in both} == {torch.float32}


@every_head
def test_it_may_be_run_in_stages_or_narrow(head: Choice) -> None:
    """It is a chain of its children, or gets by with little of each level: both save memory."""
    made, _, _ = _made(head)
    assert is_its_children(made) or hasattr(made, "narrow")


def test_names_are_known() -> None:
    """In this order."""
    assert HEADS.names() == ["fusion", "fcn32", "fcn16", "fcn8", "largefov", "aspp_sum", "aspp", "ubernet"]


def test_width_and_fusion_may_stand_beside_the_name() -> None:
    """As they did before there was a choice."""
    assert Segmentation(classes=2, width=16, fusion="sum").recipe == Segmentation(
        classes=2, head={"type": "fusion", "width": 16, "fusion": "sum"}
    ).recipe  # fmt: skip


def test_a_head_brings_its_taps() -> None:
    """Unless the configuration names some."""
    assert Segmentation(classes=2, head="fcn16").taps == ("res4", "res5")
    assert Segmentation(classes=2, head="fcn16", taps=["res2", "res3"]).taps == ("res2", "res3")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"head": "fnc8"}, "unknown head 'fnc8' in segmentation; did you mean 'fcn8'"),
        ({"head": {"width": 3}}, "head needs a name, as in head: NAME"),
        ({"head": {"type": "fcn8", "rates": [6]}}, "unknown key 'rates' for head 'fcn8'"),
        ({"head": {"type": "aspp", "rates": "six"}}, "head 'aspp' in segmentation: key 'rates'"),
        ({"head": "fcn8", "fusion": "sum"}, "unknown key 'fusion' for head 'fcn8'"),
        ({"head": {"type": "fcn8", "width": 4}, "width": 8}, "'width' is given twice"),
        ({"head": "largefov", "width": 0}, "positive width"),
        ({"head": {"type": "aspp", "rates": []}}, "one or more positive rates"),
        ({"head": {"type": "aspp", "dropout": 1.0}}, "dropout from 0 to below 1"),
        ({"head": {"type": "ubernet", "stride": 0}}, "stride is a number of pixels from 1"),
    ],
)  # fmt: skip
def test_what_makes_no_head_is_refused(keywords: dict[str, Any], message: str) -> None:
    """When the task is made, before anything else is."""
    with pytest.raises(ConfigError, match=message):
        Segmentation(classes=2, **keywords)


@pytest.mark.parametrize(
    ("head", "strides", "message"),
    [
        ("fcn8", [8, 16], "head 'fcn8' reads 3 levels; given are 2"),
        ("fcn16", [6, 16], "6 does not divide 16"),
        ({"type": "fcn16", "scales": [1.0]}, [8, 16], "no scales or one for each of 2 levels"),
        ({"type": "fcn16", "width": -1}, [8, 16], "a width from 0"),
        ("aspp", [8, 16], "head 'aspp' reads one level; given are 2"),
        ("ubernet", [3, 16], "3 does not divide 8"),
    ],
)
def test_levels_that_a_head_cannot_read_are_refused(head: Choice, strides: list[int], message: str) -> None:
    """With what to change."""
    with pytest.raises(ConfigError, match=message):
        Segmentation(classes=2, head=head).make_head([Level(4, stride) for stride in strides])
