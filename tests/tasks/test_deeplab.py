"""DeepLab's heads: what their branches see, and that they are the published sums and concatenations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ubertrain.engine.branches import coupling
from ubertrain.engine.level import Level
from ubertrain.ops.grid import OnGrid
from ubertrain.tasks.deeplab import ASPP, ASPPSum, LargeFOV
from ubertrain.tasks.heads import HeadRecipe

LEVEL = Level(6, 8)


def _randomised(recipe: HeadRecipe, classes: int = 2) -> nn.Module:
    head = recipe.make([LEVEL], classes).eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.2)
    return head


def _reach(recipe: HeadRecipe, side: int = 61) -> list[int]:
    """How far from the middle cell, along a row, the middle cell's scores reach into the level."""
    head = _randomised(recipe)
    level = torch.randn(1, 6, 1, side, requires_grad=True)
    scores = head.train()([level])
    assert isinstance(scores, OnGrid)
    scores.values[..., side // 2].sum().backward()
    assert level.grad is not None
    return [int(place) - side // 2 for place in level.grad[0, :, 0].any(dim=0).nonzero()]


@pytest.mark.parametrize(
    ("recipe", "reach"),
    [
        (LargeFOV(width=64, dropout=0.0), [-12, 0, 12]),
        (LargeFOV(width=64, dropout=0.0, rate=4), [-4, 0, 4]),
        (ASPPSum(), [-24, -18, -12, -6, 0, 6, 12, 18, 24]),
        (ASPPSum(width=64, dropout=0.0, rates=(3, 5)), [-5, -3, 0, 3, 5]),
        (ASPP(width=64, image_pooling=False, norm="frozen"), [-18, -12, -6, 0, 6, 12, 18]),
        (ASPP(width=64, norm="frozen"), list(range(-30, 31))),
    ],
    ids=["largefov", "largefov-4", "v2", "v2-features", "v3", "v3-pooling"],
)
def test_scores_see_what_the_rates_say(recipe: HeadRecipe, reach: list[int]) -> None:
    """And with image pooling all of the image."""
    assert _reach(recipe) == reach


def test_the_pyramid_of_v2_is_a_sum_of_convolutions() -> None:
    """Written out."""
    head, level = _randomised(ASPPSum(rates=(2, 3))), torch.randn(1, 6, 9, 10)
    one, other = head.get_submodule("pyramid").children()
    literal = sum(
        F.conv2d(level, part.weight, part.bias, padding=rate, dilation=rate) for part, rate in ((one, 2), (other, 3))
    )  # fmt: skip
    scores = head.train()([level])
    torch.testing.assert_close(scores.values, literal)


def test_the_pyramid_of_v3_is_a_concatenation() -> None:
    """Of a 1x1, three dilated convolutions and the image's mean, all of one width."""
    head, level = _randomised(ASPP(width=4)), torch.randn(2, 6, 9, 10)
    pyramid = head.get_submodule("pyramid")
    parts = pyramid(level)
    assert parts.shape == (2, 5 * 4, 9, 10)
    torch.testing.assert_close(parts[:, :4], next(pyramid.children())(level))
    mean = parts[:, 16:]
    assert torch.equal(mean, mean[..., :1, :1].expand_as(mean))


@pytest.mark.parametrize(("norm", "coupled"), [("group", False), ("batch", True), ("frozen", False)])
def test_only_batch_norm_couples_images(norm: str, coupled: bool) -> None:
    """So rows may be split by default."""
    assert (coupling(ASPP(width=8, norm=norm).make([LEVEL], 2)) is not None) == coupled  # type: ignore[arg-type]


def test_a_batch_of_one_image_trains_with_batch_norm() -> None:
    """The pooled branch has no norm, which would fail on one value per channel."""
    head = ASPP(width=8, norm="batch").make([LEVEL], 2)
    level: Tensor = torch.randn(1, 6, 5, 5)
    assert head([level]).values.isfinite().all()


def test_corners_put_scores_at_corners() -> None:
    """Of 41 cells of stride 8, 321 pixels, as DeepLab crops them."""
    level = torch.randn(1, 6, 41, 41)
    for corners, side in ((True, 321), (False, 328)):
        assert _randomised(ASPPSum(corners=corners))([level]).shape == (1, 2, side, side)
