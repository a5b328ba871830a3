import importlib
import math
from itertools import product

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ubertrain.engine.meter import LiveBytes
from ubertrain.ops import roi_align as module
from ubertrain.ops.compiled import compiled
from ubertrain.ops.roi_align import roi_align, roi_align_levels


def read(level: Tensor, y: float, x: float) -> Tensor:
    """One bilinear sample (channels,) at a point in cells; the rule at the border as in Detectron2."""
    channels, height, width = level.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return level.new_zeros(channels)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    i, j = math.floor(y), math.floor(x)
    below, right = min(i + 1, height - 1), min(j + 1, width - 1)
    top = level[:, i, j] * (1 - (x - j)) + level[:, i, right] * (x - j)
    bottom = level[:, below, j] * (1 - (x - j)) + level[:, below, right] * (x - j)
    return top * (1 - (y - i)) + bottom * (y - i)


def loop(level: Tensor, boxes: Tensor, stride: int, bins: int, samples: int) -> Tensor:
    """RoI align, bin by bin and sample by sample."""
    rows, count = boxes.shape[:2]
    out = level.new_zeros(rows, count, level.shape[1], bins, bins)
    for row, n, i, j in product(range(rows), range(count), range(bins), range(bins)):
        x0, y0, x1, y1 = ((boxes[row, n] / stride) - 0.5).tolist()
        for a, b in product(range(samples), range(samples)):
            y = y0 + (i + (a + 0.5) / samples) * (y1 - y0) / bins
            x = x0 + (j + (b + 0.5) / samples) * (x1 - x0) / bins
            out[row, n, :, i, j] += read(level[row], y, x) / samples**2
    return out


BOXES = torch.tensor(
    [
        [[3.0, 5.0, 21.0, 17.0], [0.0, 0.0, 40.0, 32.0], [10.0, 10.0, 10.5, 10.25], [17.0, 2.0, 33.0, 30.0]],
        # across each border, far outside, of no size
        [[-30.0, -9.0, 12.0, 50.0], [28.0, 20.0, 90.0, 44.0], [100.0, 100.0, 120.0, 130.0], [8.0, 8.0, 8.0, 8.0]],
    ],
    dtype=torch.float64,
)


@pytest.fixture(params=["products", "sums"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two forms, whatever is faster."""
    monkeypatch.setattr(module, "_ENTRY", 10**9 if request.param == "products" else 0)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(("bins", "samples"), [(7, 2), (3, 1), (2, 3), (1, 4)])
@pytest.mark.parametrize("stride", [4, 8])
def test_values_and_gradients_are_the_loops(bins: int, samples: int, stride: int) -> None:
    """Forward values, and the gradient of a random projection of them, equal those of explicit float64 loops."""
    level = torch.randn(2, 3, 8, 10, dtype=torch.float64, requires_grad=True)
    ours, expected = roi_align(level, BOXES, stride, bins, samples), loop(level, BOXES, stride, bins, samples)
    torch.testing.assert_close(ours, expected)
    projection = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad((value * projection).sum(), level)[0] for value in (ours, expected)))


@pytest.mark.usefixtures("form")
def test_gradient_is_numerically_right() -> None:
    """The derivative with respect to the level passes torch's numerical check."""
    level = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)

    def squared(values: Tensor) -> Tensor:
        return roi_align(values, BOXES[:, :2] / 2, 4, bins=2).square()

    assert torch.autograd.gradcheck(squared, (level,))


def test_every_box_reads_its_own_level() -> None:
    """Of several levels, each box has the values and gives the gradient that it would have on its level alone."""
    levels = [torch.randn(2, 3, 16 // s, 20 // s, dtype=torch.float64, requires_grad=True) for s in (1, 2, 4)]
    which = torch.tensor([[0, 2, 1, 1], [2, 0, 1, 0]])
    ours = roi_align_levels(levels, BOXES, (2, 4, 8), which, bins=3)
    each = [loop(level, BOXES, stride, 3, 2) for level, stride in zip(levels, (2, 4, 8), strict=True)]
    expected = sum((which == i)[..., None, None, None] * value for i, value in enumerate(each))
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(ours, expected)
    projection = torch.randn_like(expected)
    gradients = [torch.autograd.grad((value * projection).sum(), levels) for value in (ours, expected)]
    for mine, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, wanted)


@pytest.mark.usefixtures("form")
def test_a_box_that_is_no_box_shows() -> None:
    """A box that is not finite reads nan, not some cell, so that a diverged network is noticed; the others are as they were."""
    boxes = torch.tensor([[[torch.nan] * 4, [2.0, 2.0, torch.inf, 9.0], [3.0, 5.0, 21.0, 17.0]]])
    values = roi_align(torch.randn(1, 2, 8, 10), boxes, 4)
    assert values[0, 0].isnan().all() and not values[0, 2].isnan().any()


def bytes_of_a_run() -> tuple[int, int]:
    """Bytes alive after the forward, and the peak of it and its backward."""
    levels, boxes = [torch.zeros(2, 3, 8 // s, 10 // s, requires_grad=True) for s in (1, 2)], torch.zeros(2, 6, 4)
    which = torch.zeros(2, 6, dtype=torch.long)
    with LiveBytes() as meter:
        values = roi_align_levels(levels, boxes, (4, 8), which)
        live = meter.live
        values.sum().backward()
    return live, meter.peak


def test_fake_bytes_are_the_real_ones() -> None:
    """What fake tensors foretell of its memory is what a run takes."""
    with FakeTensorMode():
        foretold = bytes_of_a_run()
    assert foretold == bytes_of_a_run()


def test_it_is_torchvisions() -> None:
    """Values and gradients are those of torchvision's compiled operator, where there is one."""
    if compiled("roi_align", "cpu") is None:
        pytest.skip("torchvision's compiled operators do not load here")
    operator = importlib.import_module("torchvision").ops.roi_align
    level = torch.randn(2, 3, 8, 10, dtype=torch.float64, requires_grad=True)
    ours = roi_align_levels([level], BOXES, [4], torch.zeros(BOXES.shape[:2], dtype=torch.long))
    theirs = operator(level, list(BOXES), 7, 0.25, 2, True).unflatten(0, (2, 4))
    torch.testing.assert_close(ours, theirs)
    projection = torch.randn_like(ours)
    torch.testing.assert_close(*(torch.autograd.grad((value * projection).sum(), level)[0] for value in (ours, theirs)))


@pytest.mark.usefixtures("form")
def test_a_ramp_is_read_at_the_bins_centres() -> None:
    """On a level that holds its own input coordinates, a box within it reads the centres of its bins."""
    stride, bins = 4, 5
    x = (torch.arange(20.0) + 0.5) * stride
    level = torch.stack([x.expand(16, 20), x[:16, None].expand(16, 20)])[None]
    values = roi_align(level, torch.tensor([[[10.0, 12.0, 50.0, 52.0]]]), stride, bins)[0, 0]
    centres = torch.arange(bins) * 8 + 4.0
    torch.testing.assert_close(values[0], (10 + centres).expand(bins, bins))
    torch.testing.assert_close(values[1], (12 + centres)[:, None].expand(bins, bins))


@pytest.mark.usefixtures("form")
def test_shapes_without_values_and_without_rows() -> None:
    """Fake tensors suffice, and a batch of no images gives no rows."""
    with FakeTensorMode():
        assert roi_align(torch.zeros(2, 3, 8, 10), torch.zeros(2, 6, 4), 8).shape == (2, 6, 3, 7, 7)
    assert roi_align(torch.zeros(0, 3, 8, 10), torch.zeros(0, 6, 4), 8).shape == (0, 6, 3, 7, 7)


@pytest.mark.usefixtures("form")
def test_under_autocast_the_result_stays_close() -> None:
    """bfloat16 autocast changes the values by no more than bfloat16 does."""
    level = torch.randn(2, 3, 8, 10)
    exact = roi_align(level, BOXES.float(), 4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(roi_align(level, BOXES.float(), 4).float(), exact, atol=0.03, rtol=0.03)
