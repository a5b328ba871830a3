import importlib
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ubertrain.engine.meter import LiveBytes
from ubertrain.ops import roi_pool as module
from ubertrain.ops.compiled import compiled
from ubertrain.ops.roi_pool import roi_argmax, roi_pool


def away(number: float) -> int:
    """Rounded, halves away from 0, as C's `round` does."""
    return int(number + 0.5) if number >= 0 else -int(-number + 0.5)


def loop(level: Tensor, boxes: Tensor, stride: int, bins: int) -> Tensor:
    """RoI max pooling, bin by bin and cell by cell, as the layer of Fast R-CNN computes it."""
    rows, count = boxes.shape[:2]
    out = level.new_zeros(rows, count, level.shape[1], bins, bins)
    height, width = level.shape[-2:]
    for row, n, i, j in product(range(rows), range(count), range(bins), range(bins)):
        x0, y0, x1, y1 = (away(side) for side in (boxes[row, n] / stride).tolist())
        h, w = max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1)
        top, left = max(y0 + i * h // bins, 0), max(x0 + j * w // bins, 0)
        bottom, right = min(y0 - -(i + 1) * h // bins, height), min(x0 - -(j + 1) * w // bins, width)
        if bottom > top and right > left:
            out[row, n, :, i, j] = level[row, :, top:bottom, left:right].amax(dim=(1, 2))
    return out


BOXES = torch.tensor(
    [
        [[3.0, 5.0, 21.0, 17.0], [0.0, 0.0, 40.0, 32.0], [10.0, 10.0, 10.5, 10.25], [17.0, 2.0, 33.0, 30.0]],
        # across each border, far outside, of no size, the wrong way round
        [[-30.0, -9.0, 12.0, 50.0], [28.0, 20.0, 90.0, 44.0], [100.0, 100.0, 120.0, 130.0], [8.0, 8.0, 8.0, 8.0]],
    ],
    dtype=torch.float64,
)


@pytest.mark.parametrize("bins", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("stride", [4, 8])
def test_values_and_gradients_are_the_loops(bins: int, stride: int) -> None:
    """Forward values, and the gradient of a random projection of them, equal those of explicit float64 loops."""
    level = torch.randn(2, 3, 8, 10, dtype=torch.float64, requires_grad=True)
    ours, expected = roi_pool(level, BOXES, stride, bins), loop(level, BOXES, stride, bins)
    torch.testing.assert_close(ours, expected)
    projection = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad((value * projection).sum(), level)[0] for value in (ours, expected)))


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(13, 13), (8, 10)])
def test_a_box_around_everything_is_adaptive_pooling(bins: int, size: tuple[int, int]) -> None:
    """The bins of the whole level are those of torch's adaptive pooling, which rounds outwards, too."""
    level = torch.randn(2, 3, *size)
    box = torch.tensor([0.0, 0.0, size[1] - 1, size[0] - 1]).expand(2, 1, 4)
    torch.testing.assert_close(roi_pool(level, box, 1, bins)[:, 0], F.adaptive_max_pool2d(level, bins))


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_on_a_square_level_it_is_the_pyramid_of_spp(bins: int) -> None:
    """On 13 x 13 cells the bins are windows of ceil(13 / bins) every floor(13 / bins) cells (SPP-net, section 2.3)."""
    level = torch.randn(1, 2, 13, 13)
    box = torch.tensor([[[0.0, 0.0, 12.0, 12.0]]])
    torch.testing.assert_close(roi_pool(level, box, 1, bins)[:, 0], F.max_pool2d(level, -(-13 // bins), 13 // bins))


def test_of_equal_values_the_first_gets_the_gradient() -> None:
    """Row by row, as in torchvision's operator; no other cell gets any."""
    level = torch.zeros(1, 1, 4, 4, requires_grad=True)
    roi_pool(level, torch.tensor([[[0.0, 0.0, 3.0, 3.0]]]), 1, 2).sum().backward()
    assert level.grad is not None and level.grad[0, 0].nonzero().tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]


def test_a_value_that_is_no_number_shows() -> None:
    """nan in a bin is the bin's value, so that a diverged trunk is noticed."""
    level = torch.randn(1, 1, 4, 4)
    level[0, 0, 1, 1] = torch.nan
    pooled = roi_pool(level, torch.tensor([[[0.0, 0.0, 3.0, 3.0]]]), 1, 2)[0, 0, 0]
    assert pooled.isnan().tolist() == [[True, False], [False, False]]


def test_a_box_that_is_no_box_shows() -> None:
    """A box that is not finite has the value nan in every bin; the others are as they were."""
    boxes = torch.tensor([[[torch.nan] * 4, [2.0, 2.0, torch.inf, 9.0], [3.0, 5.0, 21.0, 17.0]]])
    values = roi_pool(torch.randn(1, 2, 8, 10), boxes, 4)
    assert values[0, :2].isnan().all() and not values[0, 2].isnan().any()


def test_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Working through the boxes one at a time gives the result of all at once."""
    level = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    whole = roi_pool(level, BOXES, 4)
    monkeypatch.setattr(module, "_VALUES", 1)
    assert torch.equal(roi_pool(level, BOXES, 4), whole)


def test_it_is_a_sound_operator() -> None:
    """PyTorch's own conformance check: schema, fake kernel and real kernel agree."""
    torch.library.opcheck(roi_argmax, (torch.randn(2, 3, 8, 10), BOXES.float(), 0.25, 3))


def test_shapes_without_values_and_without_rows() -> None:
    """Fake tensors suffice, and a batch of no images, or of no boxes, gives none."""
    with FakeTensorMode():
        assert roi_pool(torch.zeros(2, 3, 8, 10), torch.zeros(2, 6, 4), 8).shape == (2, 6, 3, 7, 7)
    assert roi_pool(torch.zeros(0, 3, 8, 10), torch.zeros(0, 6, 4), 8).shape == (0, 6, 3, 7, 7)
    assert roi_pool(torch.zeros(2, 3, 8, 10), torch.zeros(2, 0, 4), 8).shape == (2, 0, 3, 7, 7)


def bytes_of_a_run() -> tuple[int, int]:
    """Bytes alive after pooling, and the peak of pooling and its backward."""
    level, boxes = torch.zeros(2, 3, 8, 10, requires_grad=True), torch.zeros(2, 6, 4)
    with LiveBytes() as meter:
        pooled = roi_pool(level, boxes, 8)
        live = meter.live
        pooled.sum().backward()
    return live, meter.peak


def test_fake_bytes_are_the_real_ones() -> None:
    """What fake tensors foretell of its memory is what a run takes."""
    with FakeTensorMode():
        foretold = bytes_of_a_run()
    assert foretold == bytes_of_a_run()


def test_it_is_torchvisions() -> None:
    """Values and gradients are those of torchvision's compiled operator, where there is one."""
    if compiled("roi_pool", "cpu") is None:
        pytest.skip("torchvision's compiled operators do not load here")
    operator = importlib.import_module("torchvision").ops.roi_pool
    level = torch.randn(2, 3, 8, 10, dtype=torch.float64, requires_grad=True)
    where = roi_argmax(level.detach(), BOXES, 0.25, 7)
    ours = level.flatten(2).gather(2, where.clamp(min=0)).masked_fill(where < 0, 0.0).unflatten(2, (4, 7, 7)).transpose(1, 2)
    theirs = operator(level, list(BOXES), 7, 0.25).unflatten(0, (2, 4))
    torch.testing.assert_close(ours, theirs)
    projection = torch.randn_like(ours)
    torch.testing.assert_close(*(torch.autograd.grad((value * projection).sum(), level)[0] for value in (ours, theirs)))
