import pytest
import torch
from torch import Tensor

from ubertrain.engine.meter import LiveBytes
from ubertrain.ops.crf_exact import exact_kernels
from ubertrain.ops.crf_kernels import entries, kernels


def smooth_images(rows: int, height: int, width: int) -> Tensor:
    """Smooth random images."""
    coarse = torch.rand(rows, 3, 3, 3, dtype=torch.double) * 255
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def dense(kernel: object, points: int, **options: bool) -> Tensor:
    """The kernel's matrix."""
    return kernel.filter(torch.eye(points, dtype=torch.double), **options)  # type: ignore[attr-defined]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("std", [0.3, 1.0, 1.9])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (12, 9)])
def test_narrow_smoothness_is_exact(size: tuple[int, int], std: float, symmetric: bool) -> None:
    """Below 2 pixels it is the Gaussian itself, but for what is cut 4 standard deviations away, for every image alike."""
    images = smooth_images(2, *size)
    points = size[0] * size[1]
    _, smoothness = kernels(images, (10.0, 10.0, std), symmetric, images)
    expected = exact_kernels(images, (10.0, 10.0, std), normalised=symmetric)[1]
    torch.testing.assert_close(dense(smoothness, 2 * points), torch.block_diag(*expected), atol=4e-4, rtol=0)


def test_normalised_appearance_sums_as_the_exact_kernel() -> None:
    """What a pixel receives in all is within 0.2 of the exact kernel's, and on average within 0.02."""
    images = smooth_images(1, 24, 24)
    widths = (10.0, 20.0, 1.0)
    appearance, _ = kernels(images, widths, True, images)
    ones = torch.ones(24 * 24, 1, dtype=torch.double)
    expected = exact_kernels(images, widths)[0, 0] @ ones
    got = appearance.filter(ones)
    assert ((got - expected).abs() < 0.2).all()
    assert (got - expected).mean().abs() < 0.02


@pytest.mark.parametrize("std", [1.0, 3.0])
def test_transposed_kernels_are_adjoint(std: float) -> None:
    """<K x, y> = <x, K^T y> of both normalised kernels."""
    images = smooth_images(2, 6, 8)
    x, y = torch.randn(2, 2 * 6 * 8, 3, dtype=torch.double)
    for kernel in kernels(images, (5.0, 20.0, std), True, images):
        torch.testing.assert_close((kernel.filter(x) * y).sum(), (x * kernel.filter(y, transposed=True)).sum())


def test_a_constant_image_leaves_positions_only() -> None:
    """Without contrast, the appearance kernel is a Gaussian of positions: the wide smoothness kernel, both approximate."""
    images = torch.full((1, 3, 20, 20), 90.0, dtype=torch.double)
    appearance, smoothness = kernels(images, (4.0, 3.0, 4.0), True, images)
    bump = torch.zeros(400, 1, dtype=torch.double)
    bump[210] = 1
    got, expected = appearance.filter(bump), smoothness.filter(bump)
    torch.testing.assert_close(got.sum(), expected.sum(), rtol=0.05, atol=0)
    assert (got - expected).abs().sum() < 0.25 * expected.sum()


def test_edges_stop_the_appearance_kernel() -> None:
    """Nothing crosses an edge of 20 standard deviations of colour."""
    images = torch.zeros(1, 3, 8, 8, dtype=torch.double)
    images[..., 4:] = 200
    appearance, _ = kernels(images, (10.0, 10.0, 1.0), True, images)
    left = torch.zeros(1, 8, 8, dtype=torch.double)
    left[..., :4] = 1
    assert appearance.filter(left.view(64, 1)).view(8, 8)[:, 4:].eq(0).all()


@pytest.mark.parametrize("std", [1.0, 3.0])
def test_memory_is_linear_in_pixels(std: float) -> None:
    """Four times the pixels take four times the bytes, while a kernel is built and afterwards; `entries` are not exceeded."""

    def measured(side: int) -> tuple[int, int]:
        images = smooth_images(1, side, side).float()
        with LiveBytes() as meter:
            built = kernels(images, (side / 4, 20.0, std), True, images)
        assert len(built[0].splat.starts) < side * side
        assert meter.live < entries((side / 4, 20.0, std)) * 8 * side * side
        return meter.peak, meter.live

    for small, large in zip(measured(80), measured(160), strict=True):
        assert 3.6 < large / small < 4.2
