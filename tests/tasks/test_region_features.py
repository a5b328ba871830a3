from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tasks.box_targets import LEVELS, levels
from ubertrain.ops.roi_align import roi_align
from ubertrain.ops.roi_pool import roi_pool
from ubertrain.tasks.pyramid import Pyramid
from ubertrain.tasks.region_features import FeatureSettings, RegionFeatures, Views, level_of

BOXES = torch.tensor([[4.0, 4.0, 12.0, 20.0], [0.0, 0.0, 90.0, 60.0], [20.0, 8.0, 60.0, 40.0], [5.0, 5.0, 5.0, 5.0]]).repeat(
    3, 1, 1
)
STRIDES = (8, 16, 32)


@pytest.mark.parametrize(
    ("side", "stride"),
    [(1, 4), (111.9, 4), (112, 8), (223.9, 8), (224, 16), (447, 16), (448, 32), (5000, 32), (0, 4)],
)
def test_boxes_are_read_at_the_stride_of_their_size(side: float, stride: int) -> None:
    """A square of 224 pixels is read at stride 16, one twice as large at twice the stride (FPN, equation 1)."""
    box = torch.tensor([[[10.0, 10.0, 10.0 + side, 10.0 + side]]], dtype=torch.float64)
    assert (4, 8, 16, 32)[int(level_of(box, (4, 8, 16, 32)))] == stride


def test_levels_need_not_double() -> None:
    """With strides that repeat or leave out one, the next finer level there is is read."""
    boxes = torch.tensor([[[0.0, 0.0, side, side] for side in (100.0, 300.0, 500.0)]])
    assert level_of(boxes, (8, 8, 32)).tolist() == [[0, 1, 2]]


def test_what_is_no_box_has_a_level() -> None:
    """A box that is no number is read somewhere, so that it shows in the values."""
    assert level_of(torch.full((1, 1, 4), torch.nan), (8, 16)).tolist() == [[0]]


def settings(**keywords: Any) -> FeatureSettings:
    """Plain settings with some changed."""
    plain = {"pool": "align", "bins": (3,), "regions_from": "finest", "canonical": 20.0, "context": False}
    return FeatureSettings(**{**plain, **keywords})


def features(chosen: FeatureSettings) -> tuple[RegionFeatures, Views]:
    """The module on three levels, and what it sees."""
    values, pyramid = levels(), Pyramid(LEVELS, 16, 3)
    return RegionFeatures(LEVELS, pyramid, 32, chosen), Views(values, pyramid(values))


def expected(head: RegionFeatures, *grids: Tensor) -> Tensor:
    """The fully connected layer over the joined grids."""
    joined: Tensor = head.grid(torch.cat([grid.flatten(2) for grid in grids], dim=-1))
    return joined


@pytest.mark.parametrize(("pool", "read"), [("align", roi_align), ("max", roi_pool)])
@pytest.mark.parametrize("bins", [(3,), (6, 3, 2, 1)])
def test_grids_are_read_from_the_finest_level(pool: str, read: Any, bins: tuple[int, ...]) -> None:
    """Each number of bins gives a grid, read by the chosen pooling; together they make one vector."""
    head, seen = features(settings(pool=pool, bins=bins))
    grids = [read(seen.pyramid[0], BOXES, 8, count) for count in bins]
    assert head.grid.in_features == 16 * sum(count**2 for count in bins)
    torch.testing.assert_close(head(seen, BOXES), expected(head, *grids))


@pytest.mark.parametrize(("pool", "read"), [("align", roi_align), ("max", roi_pool)])
def test_by_size_each_box_is_read_from_its_own_level(pool: str, read: Any) -> None:
    """What a box gives is what it gives on its level alone, and no other level has a gradient from it."""
    head, seen = features(settings(pool=pool, regions_from="size"))
    which = level_of(BOXES, STRIDES, 20.0)
    assert set(which[0].tolist()) == {0, 1, 2}
    every = torch.stack([read(level, BOXES, stride, 3) for level, stride in zip(seen.pyramid, STRIDES, strict=True)])
    own = every.gather(0, which[None, ..., None, None, None].expand(1, *every.shape[1:]))[0]
    given = head(seen, BOXES)
    torch.testing.assert_close(given, expected(head, own))
    reached = torch.autograd.grad(given[:, 1].sum(), list(seen.pyramid), allow_unused=True)
    assert [gradient is not None and bool(gradient.any()) for gradient in reached] == [int(which[0, 1]) == i for i in range(3)]


def test_context_sees_every_tap() -> None:
    """With the means of the taps, the levels of the trunk themselves change what is seen of a box."""
    head, seen = features(settings(context=True))
    taps = [level.detach().clone().requires_grad_() for level in seen.levels]
    head(Views(taps, [level.detach() for level in seen.pyramid]), BOXES).square().sum().backward()
    assert all(tap.grad is not None and tap.grad.any() for tap in taps)


@pytest.mark.parametrize("pool", ["align", "max"])
@pytest.mark.parametrize("source", ["finest", "size"])
def test_a_box_that_is_no_number_shows(pool: str, source: str) -> None:
    """Its features are nan, those of the others are not."""
    head, seen = features(settings(pool=pool, regions_from=source))
    boxes = BOXES.clone()
    boxes[1, 2] = torch.nan
    wrong = head(seen, boxes).isnan().any(dim=-1)
    assert wrong.nonzero().tolist() == [[1, 2]]
