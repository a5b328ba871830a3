"""UberNet's head against its published form, written out in Caffe's order."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.ops.grid import OnGrid
from ubertrain.tasks.ubernet_head import UberNet

STRIDES = [1, 2, 4, 8, 8, 8]
LEVELS = [Level(4 + place, stride) for place, stride in enumerate(STRIDES)]


def _taps(size: tuple[int, int], rows: int = 2) -> list[Tensor]:
    """Levels of magnitudes that differ, as VGG's do."""
    return [
        10.0**place * torch.rand(rows, channels, *(-(-side // stride) for side in size)).double()
        for place, (channels, stride) in enumerate(LEVELS)
    ]


def _head(**keys: object) -> nn.Module:
    head = UberNet(**keys).make(LEVELS, 3).double()  # type: ignore[arg-type]
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return head


@pytest.mark.parametrize("stride", [8, 1])
def test_it_is_the_published_network(stride: int) -> None:
    """Batch norm with eps 1, times 10, score, interpolate with aligned corners, concatenate, 1x1: on sides of 8k + 1."""
    head, taps = _head(stride=stride), _taps((33, 41))
    size = tuple((side - 1) // stride + 1 for side in (33, 41))
    resized = []
    layers = head.get_submodule("score").layer
    for place, (layer, tap) in enumerate(zip(layers, taps, strict=True)):
        if place < len(taps) - 1:
            mean, variance = tap.mean(dim=(0, 2, 3), keepdim=True), tap.var(dim=(0, 2, 3), keepdim=True, correction=0)
            tap = 10 * (tap - mean) / (variance + 1).sqrt()
        resized.append(F.interpolate(layer(tap), size=size, mode="bilinear", align_corners=True))
    fuse = torch.cat([part.weight for part in head.get_submodule("fuse").mix], dim=1)
    scores = head(taps)
    assert isinstance(scores, OnGrid) and scores.corners and scores.stride == stride
    torch.testing.assert_close(scores.values, F.conv2d(torch.cat(resized, dim=1), fuse))


def test_a_new_head_averages() -> None:
    """Exactly: its fusion starts as the mean of the taps' scores."""
    head, taps = UberNet(stride=1).make(LEVELS[:1] * 2, 3), [torch.randn(1, 4, 5, 5) for _ in range(2)]
    one, other = head.get_submodule("score")(taps)
    torch.testing.assert_close(head(taps).values, (one + other) / 2)


def test_eval_mode_normalises_by_what_training_saw() -> None:
    """An image gets the same answer alone as within a batch."""
    head, taps = _head(), _taps((33, 41), rows=3)
    for _ in range(3):
        head.train()(taps)
    whole = head.eval()(taps)
    torch.testing.assert_close(head([tap[1:2] for tap in taps]), whole[1:2])


def test_the_norm_has_no_parameters() -> None:
    """Scores and fusion have all of them: 6 (C_t + 1) per channel of score, and 6 C_t^2."""
    head = UberNet().make(LEVELS, 3)
    count = sum(parameter.numel() for parameter in head.parameters())
    assert count == sum(3 * (level.channels + 1) for level in LEVELS) + 6 * 3 * 3


def test_weak_taps_stay_weak() -> None:
    """With eps 1, a tap whose variance is far below 1 is hardly enlarged, unlike with the usual eps."""
    norm = UberNet().make(LEVELS, 3).get_submodule("score").norm[0]
    weak = 0.01 * torch.randn(4, 4, 8, 8)
    assert norm(weak).std() < 0.02
