"""Fully convolutional networks: upconvolutions against interpolation and Caffe's filler, skips, starts."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ubertrain.engine.branches import coupling
from ubertrain.engine.level import Level
from ubertrain.ops.pixels import enlarge, to_size
from ubertrain.tasks.fcn import FCNHead, Upconvolution, bilinear_kernel

LEVELS = [Level(6, 8), Level(8, 16), Level(10, 32)]


def _features(size: tuple[int, int] = (96, 70)) -> list[Tensor]:
    return [torch.randn(2, channels, -(-size[0] // stride), -(-size[1] // stride)) for channels, stride in LEVELS]


def _scored(head: nn.Module) -> FCNHead:
    assert isinstance(head, FCNHead)
    for layer in head.score:  # type: ignore[union-attr]
        nn.init.normal_(layer.weight)
    return head


@pytest.mark.parametrize("size", [2, 3, 4, 5, 16, 64])
def test_the_kernel_is_caffes(size: int) -> None:
    """Of its bilinear filler, as FCN's code copies it."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    rows, columns = np.ogrid[:size, :size]
    theirs = (1 - abs(rows - centre) / factor) * (1 - abs(columns - centre) / factor)
    torch.testing.assert_close(bilinear_kernel(size).double(), torch.from_numpy(theirs))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_a_new_upconvolution_is_bilinear_interpolation(factor: int, apart: bool) -> None:
    """At every pixel, the border included."""
    values = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(Upconvolution(3, factor, apart=apart)(values), enlarge(values, factor), rtol=1e-5, atol=1e-5)


def test_a_new_head_scores_zero_and_learns() -> None:
    """All scores start at 0, as in the published solver, and each gets a gradient."""
    head, levels = FCNHead(LEVELS, 3), _features()
    scores = head(levels).values
    assert not scores.any()
    scores.sum().backward()
    assert all(layer.weight.grad.any() for layer in head.score)


@pytest.mark.parametrize("upsampling", ["fixed", "learned", "all"])
def test_the_sum_climbs_from_the_coarsest_level(upsampling: str) -> None:
    """32s to 16s by 2, plus its scores, to 8s by 2, plus its scores: written out, for sides that no stride divides."""
    head, levels = _scored(FCNHead(LEVELS, 3, upsampling=upsampling)), _features()
    eight, sixteen, coarsest = (layer(level) for layer, level in zip(head.score, levels, strict=True))
    total = to_size(enlarge(coarsest, 2), sixteen.shape[-2:]) + sixteen
    total = to_size(enlarge(total, 2), eight.shape[-2:]) + eight
    torch.testing.assert_close(head.eval()(levels), enlarge(total, 8), rtol=1e-4, atol=1e-4)


def test_only_learned_upconvolutions_have_parameters() -> None:
    """Those between levels mix classes, the last one has a kernel per class."""
    shapes = {
        upsampling: [tuple(p.shape) for name, p in FCNHead(LEVELS, 3, upsampling=upsampling).named_parameters() if "up" in name]
        for upsampling in ("fixed", "learned", "all")
    }
    between = [(3, 3, 4, 4), (3, 3, 4, 4)]
    assert shapes == {"fixed": [], "learned": between, "all": [*between, (3, 1, 16, 16)]}


def test_levels_of_one_stride_are_added_as_they_are() -> None:
    """As those of a dilated trunk."""
    levels = [Level(4, 8), Level(5, 8)]
    head, values = _scored(FCNHead(levels, 3)), [torch.randn(1, 4, 6, 7), torch.randn(1, 5, 6, 7)]
    one, other = (layer(value) for layer, value in zip(head.score, values, strict=True))
    torch.testing.assert_close(head(values).values, one + other)


def test_scales_multiply_levels() -> None:
    """Finest first, so that those scores grow slower."""
    head, levels = _scored(FCNHead(LEVELS, 3)), _features()
    slow = FCNHead(LEVELS, 3, scales=[0.0001, 0.01, 1])
    slow.load_state_dict(head.state_dict())
    scaled = [level * scale for level, scale in zip(levels, [0.0001, 0.01, 1], strict=True)]
    torch.testing.assert_close(slow(levels).values, head(scaled).values)


def test_rows_may_be_split() -> None:
    """Nothing couples images."""
    assert coupling(FCNHead(LEVELS, 3, width=8)) is None
