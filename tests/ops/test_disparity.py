"""Shifts and structural similarity by loops in float64."""

import numpy as np
import pytest
import torch

from ubertrain.ops.disparity import dissimilarity, shifted, whole_windows


def test_shifts_interpolate_along_rows_and_end_at_the_border() -> None:
    """Pixel by pixel, with shifts of any sign and size."""
    values = torch.rand(2, 3, 4, 7, dtype=torch.float64)
    shift = 5 * torch.randn(2, 4, 7, dtype=torch.float64)
    result = shifted(values, shift)
    for row, y, x in np.ndindex(2, 4, 7):
        place = min(max(x + float(shift[row, y, x]), 0.0), 6.0)
        left = min(int(place), 5)
        share = place - left
        expected = (1 - share) * values[row, :, y, left] + share * values[row, :, y, left + 1]
        torch.testing.assert_close(result[row, :, y, x], expected)


def test_whole_shifts_copy() -> None:
    """Two pixels to the right and back."""
    values = torch.rand(1, 1, 3, 9)
    moved = shifted(values, torch.full((1, 3, 9), 2.0))
    torch.testing.assert_close(moved[..., :7], values[..., 2:])


def test_shifts_are_differentiable() -> None:
    """In the values and in the shift."""
    values = torch.rand(1, 2, 3, 6, dtype=torch.float64, requires_grad=True)
    shift = (torch.rand(1, 3, 6, dtype=torch.float64) * 2 - 1.03).requires_grad_()
    assert torch.autograd.gradcheck(shifted, (values, shift))


def test_a_shift_that_is_no_number_gives_none() -> None:
    """And no gradient; the pixels beside it have theirs."""
    values, shift = torch.rand(1, 2, 5, 9), torch.rand(1, 5, 9)
    shift[0, 2, 3] = torch.nan
    shift.requires_grad_()
    moved = shifted(values, shift)
    assert moved.isnan().nonzero().tolist() == [[0, channel, 2, 3] for channel in range(2)]
    moved.nan_to_num(0.0).sum().backward()
    assert shift.grad is not None and shift.grad.isfinite().all() and shift.grad[0, 2, 2] != 0


def test_dissimilarity_is_by_definition() -> None:
    """(1 - SSIM) / 2 of every 3 x 3 window, with plain averages and C1, C2 of 0.01 and 0.03 squared."""
    a, b = torch.rand(2, 1, 2, 5, 6, dtype=torch.float64)
    result = dissimilarity(a, b)
    for y, x in np.ndindex(3, 4):
        channels = []
        for p, q in zip(a[0, :, y : y + 3, x : x + 3].numpy(), b[0, :, y : y + 3, x : x + 3].numpy(), strict=True):
            above = (2 * p.mean() * q.mean() + 1e-4) * (2 * ((p - p.mean()) * (q - q.mean())).mean() + 9e-4)
            below = (p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (p.var() + q.var() + 9e-4)
            channels.append(np.clip((1 - above / below) / 2, 0, 1))
        assert float(result[0, y + 1, x + 1]) == pytest.approx(np.mean(channels))


def test_alike_is_zero_and_windows_over_the_border_do_not_count() -> None:
    """Nor do those that hold an invalid pixel."""
    a = torch.rand(1, 3, 6, 8)
    assert dissimilarity(a, a)[0, 1:-1, 1:-1].abs().max() < 1e-5
    valid = torch.ones(1, 6, 8, dtype=torch.bool)
    valid[0, 2, 3] = False
    expected = torch.zeros(1, 6, 8, dtype=torch.bool)
    expected[0, 1:-1, 1:-1] = True
    expected[0, 1:4, 2:5] = False
    assert torch.equal(whole_windows(valid), expected)
