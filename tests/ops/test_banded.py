"""Cross-entropy in bands against the plain one: values, gradients, bytes."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint as recomputed_call

from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import DataError
from ubertrain.ops.banded import banded_cross_entropy, rows_of_band
from ubertrain.ops.grid import OnGrid
from ubertrain.ops.pixels import to_size, valid_mean

SIZES = [(20, 31), (27, 29), (33, 40)]


def _plain(grid: OnGrid, target: Tensor) -> Tensor:
    logits = to_size(grid.pixels(), target.shape[-2:])
    surprise = F.cross_entropy(logits, target, ignore_index=255, reduction="none")
    return valid_mean(surprise, target != 255)


def _labels(rows: int, size: tuple[int, int], classes: int = 5) -> Tensor:
    """A third of the pixels without a label, and the second image without any."""
    target = torch.randint(0, classes, (rows, *size))
    target[torch.rand(target.shape) < 0.3] = 255
    target[1:2] = 255
    return target


def _cells(size: tuple[int, int], stride: int, classes: int = 5) -> Tensor:
    return torch.randn(3, classes, -(-size[0] // stride), -(-size[1] // stride), dtype=torch.float64)


@pytest.mark.parametrize("band", [1, 3, None])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 4, 7])
def test_values_and_gradients_are_those_of_the_plain_loss(
    stride: int, corners: bool, size: tuple[int, int], band: int | None
) -> None:
    """In float64, for sides that the stride does not divide, weighted image by image."""
    cells, target, weights = _cells(size, stride), _labels(3, size), torch.randn(3, dtype=torch.float64)
    found = []
    for loss in (_plain, lambda grid, labels: banded_cross_entropy(grid, labels, band=band)):
        values = cells.clone().requires_grad_()
        losses = loss(OnGrid(values, stride, corners), target)
        (losses * weights).sum().backward()
        found.append((losses.detach(), values.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)


def test_gradients_equal_finite_differences() -> None:
    """In float64, of a grid and of pixels."""
    target = _labels(2, (5, 7))
    for grid in (OnGrid(_cells((5, 7), 2)[:2], 2, corners=True), OnGrid(_cells((5, 7), 1)[:2], 1)):

        def losses(values: Tensor, grid: OnGrid = grid) -> Tensor:
            return banded_cross_entropy(OnGrid(values, grid.stride, grid.corners), target, band=2)

        assert torch.autograd.gradcheck(losses, grid.values.requires_grad_())


def test_it_holds_a_fraction_of_the_bytes() -> None:
    """At most an eighth of the plain loss, forward and backward; both counted."""
    cells, target = torch.randn(2, 21, 32, 32), _labels(2, (256, 256), 21)
    peaks = []
    for loss in (_plain, banded_cross_entropy):
        values = cells.clone().requires_grad_()
        with LiveBytes() as meter:
            loss(OnGrid(values, 8), target).sum().backward()
        peaks.append(meter.peak)
    assert peaks[1] < peaks[0] / 8


def test_bytes_on_fake_tensors_are_those_of_a_run() -> None:
    """So the loss can be planned for."""
    cells, target = torch.randn(2, 21, 16, 16), _labels(2, (128, 128), 21)

    def peak(values: Tensor, labels: Tensor) -> int:
        with LiveBytes() as meter:
            banded_cross_entropy(OnGrid(values.requires_grad_(), 8), labels).sum().backward()
        return meter.peak

    mode = FakeTensorMode()
    with mode:
        fake = peak(mode.from_tensor(cells), mode.from_tensor(target))
    assert fake == peak(cells.clone(), target)


def test_recomputing_changes_no_bit() -> None:
    """The loss, and the gradient behind it, inside a recomputed call."""
    cells, target = _cells((20, 31), 4), _labels(3, (20, 31))
    found = []
    for again in (False, True):
        values = cells.clone().requires_grad_()

        def losses(values: Tensor) -> Tensor:
            return banded_cross_entropy(OnGrid(values * 3, 4), target)

        (recomputed_call(losses, values, use_reentrant=False) if again else losses(values)).sum().backward()
        found.append(values.grad)
    assert torch.equal(*found)


class _Operations(TorchDispatchMode):
    """The names of all operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("stride", [1, 4])
def test_nothing_is_summed_in_an_order_left_open(stride: int) -> None:
    """Neither by additions to an index nor by torch's adjoints of interpolation and indexing, which are atomic on a GPU."""
    values, target = _cells((20, 31), stride).requires_grad_(), _labels(3, (20, 31))
    with _Operations() as found:
        banded_cross_entropy(OnGrid(values, stride), target, band=3).sum().backward()
    assert "scatter_" in found.names  # of one number to each place
    loose = [name for name in found.names if re.search("index_add|scatter_(add|reduce)|index_put|_backward$|bincount", name)]
    assert not loose


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_bits_twice() -> None:
    """For as many additions to each cell as a real problem has."""
    values, target = torch.randn(2, 21, 64, 64, device="cuda").requires_grad_(), _labels(2, (512, 512), 21).cuda()
    found = [torch.autograd.grad(banded_cross_entropy(OnGrid(values, 8), target).sum(), values)[0] for _ in range(2)]
    assert torch.equal(*found)


def test_without_gradients_none_is_computed() -> None:
    """The value alone is the same, and cheaper."""
    values, target = _cells((64, 64), 4).requires_grad_(), _labels(3, (64, 64))
    with torch.no_grad(), LiveBytes() as meter:
        alone = banded_cross_entropy(OnGrid(values, 4), target)
    with LiveBytes() as with_gradient:
        losses = banded_cross_entropy(OnGrid(values, 4), target)
    assert torch.equal(alone, losses)
    assert meter.peak < with_gradient.peak


def test_nan_at_pixels_without_a_label_has_no_effect() -> None:
    """Neither on the loss nor on the gradient of others."""
    logits, target = torch.randn(3, 5, 6, 7), _labels(3, (6, 7))
    broken = torch.where((target == 255)[:, None], torch.nan, logits).requires_grad_()
    loss = banded_cross_entropy(broken, target)
    loss.sum().backward()
    assert torch.equal(loss, banded_cross_entropy(logits, target))
    assert broken.grad.isfinite().all()


def test_nan_at_a_labelled_pixel_reaches_the_loss() -> None:
    """Where the training loop finds it."""
    logits = torch.zeros(1, 2, 3, 3)
    logits[..., 1, 1] = torch.nan
    assert banded_cross_entropy(logits, torch.zeros(1, 3, 3, dtype=torch.int64)).isnan().all()


@pytest.mark.parametrize("wrong", [5, -1, 254])
def test_an_id_that_is_no_class_is_refused(wrong: int) -> None:
    """With the ids and the classes in the message."""
    target = torch.full((1, 4, 4), 2)
    target[0, 3, 3] = wrong
    with pytest.raises(DataError, match=f"class ids {min(wrong, 2)} to {max(wrong, 2)} .* scores of 5 classes"):
        banded_cross_entropy(torch.randn(1, 5, 4, 4), target)


def test_labels_of_other_images_are_refused() -> None:
    """Rows of labels and of scores are the same images."""
    with pytest.raises(DataError, match="labels of shape \\(3, 4, 4\\) for scores of 2 images"):
        banded_cross_entropy(torch.randn(2, 5, 4, 4), torch.zeros(3, 4, 4, dtype=torch.int64))


def test_scores_of_16_bits_are_made_32_first() -> None:
    """Interpolated and summed without rounding again."""
    cells, target = torch.randn(3, 5, 5, 8).bfloat16(), _labels(3, (20, 31))
    ours = banded_cross_entropy(OnGrid(cells, 4), target)
    assert torch.equal(ours, banded_cross_entropy(OnGrid(cells.float(), 4), target))


@pytest.mark.parametrize(("numbers", "height", "rows"), [(10**6, 640, 20), (10**6, 10, 1), (2**10, 640, 256), (0, 8, 2**18)])
def test_a_band_is_a_small_part_but_no_tiny_tensor(numbers: int, height: int, rows: int) -> None:
    """At most 32 bands, of at least a quarter of a million numbers each."""
    assert rows_of_band(numbers, height) == rows
