"""Maps of pixels: cut, continued, enlarged, averaged."""

import pytest
import torch

from ubertrain.ops.pixels import enlarge, full_precision, to_size, valid_mean


def test_a_larger_map_is_cut_at_the_right_and_at_the_bottom() -> None:
    """The kept pixels stay where they are."""
    values = torch.arange(24.0).view(1, 4, 6)
    assert torch.equal(to_size(values, (3, 2)), values[:, :3, :2])


def test_a_smaller_map_repeats_its_border() -> None:
    """As replicate padding does it."""
    values = torch.randn(2, 3, 4, 5)
    padded = torch.nn.functional.pad(values, (0, 2, 0, 1), mode="replicate")
    assert torch.equal(to_size(values, (5, 7)), padded)


def test_one_side_may_be_cut_while_the_other_is_continued() -> None:
    """Each side is treated on its own."""
    assert torch.equal(to_size(torch.tensor([[[1, 2], [3, 4]]]), (1, 3)), torch.tensor([[[1, 2, 2]]]))


def test_a_fitting_map_is_not_copied() -> None:
    """The same memory comes back."""
    values = torch.randn(1, 2, 3)
    assert to_size(values, (2, 3)).data_ptr() == values.data_ptr()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarging_puts_pixels_on_the_block_they_cover(factor: int) -> None:
    """A linear ramp keeps its slope and its centre: a pixel at x lies at factor * (x + 0.5) - 0.5 afterwards."""
    ramp = torch.arange(6.0).expand(1, 1, 4, 6)
    inner = slice(factor, -factor)
    wanted = (torch.arange(6.0 * factor) + 0.5) / factor - 0.5
    torch.testing.assert_close(enlarge(ramp, factor)[0, 0, 0, inner], wanted[inner])


def test_half_precision_is_widened_and_double_kept() -> None:
    """Nothing is computed in fewer bits than it came with."""
    dtypes = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    widened = [full_precision(torch.ones(1, dtype=dtype)).dtype for dtype in dtypes]
    assert widened == [torch.float32, torch.float32, torch.float32, torch.float64]


def test_the_mean_is_over_valid_pixels_of_each_image() -> None:
    """By hand."""
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    valid = torch.tensor([[[True, False], [False, True]], [[False, False], [True, False]]])
    assert valid_mean(values, valid).tolist() == [2.5, 7.0]


def test_without_a_valid_pixel_the_mean_is_zero_and_has_a_gradient_of_zero() -> None:
    """Even if the values there are not finite."""
    values = torch.tensor([[torch.nan, torch.inf], [1.0, torch.nan]], requires_grad=True)
    mean = valid_mean(values, torch.tensor([[False, False], [True, False]]))
    assert mean.tolist() == [0.0, 1.0]
    mean.sum().backward()
    assert values.grad.tolist() == [[0.0, 0.0], [1.0, 0.0]]
