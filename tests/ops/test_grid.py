"""Maps on a grid: where their pixels lie, and that they travel as pytrees."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.ops.grid import OnGrid


def _ramp(cells: int, stride: int, corners: bool) -> Tensor:
    """Values that equal the position of each cell, in pixels."""
    place = torch.arange(cells, dtype=torch.float64)
    return (place * stride if corners else (place + 0.5) * stride - 0.5).expand(1, 1, cells, cells)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 4, 7])
def test_a_ramp_stays_a_ramp(stride: int, corners: bool) -> None:
    """Between the first and the last cell, the value of a pixel is its position; outside it is that of the border."""
    grid = OnGrid(_ramp(5, stride, corners), stride, corners)
    row = grid.pixels()[0, 0, 0]
    ends = grid.values[0, 0, 0, [0, -1]]
    torch.testing.assert_close(row, torch.arange(len(row), dtype=torch.float64).clamp(*ends.tolist()))


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_pixels_and_neighbours_are_one_interpolation(stride: int, corners: bool) -> None:
    """Two cells and a share give what enlarging gives, and the border where that ends."""
    grid = OnGrid(torch.randn(2, 3, 1, 6, dtype=torch.float64), stride, corners)
    whole = grid.pixels()[..., :1, :]
    assert whole.shape[-1] == grid.covered(6)
    first, second, share = grid.neighbours(0, grid.covered(6) + 2, 6)
    ours = torch.lerp(grid.values[..., first], grid.values[..., second], share)
    torch.testing.assert_close(ours, F.pad(whole, (0, 2, 0, 0), mode="replicate"))


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3, 8])
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 7), (2, 9), (13, 14), (40, 52), (60, 61)])
def test_shares_are_neighbours_as_a_matrix(stride: int, corners: bool, start: int, stop: int) -> None:
    """With no more cells than the pixels touch, also beyond the last cell."""
    grid = OnGrid(torch.zeros(1, 1, 1, 6, dtype=torch.float64), stride, corners)
    touched, shares = grid.shares(start, stop, 6)
    first, second, share = grid.neighbours(start, stop, 6)
    expected = F.one_hot(first, 6) * (1 - share)[:, None] + F.one_hot(second, 6) * share[:, None]
    assert int(first.min()) <= touched.start < touched.stop <= int(second.max()) + 1
    torch.testing.assert_close(F.pad(shares, (0, 0, touched.start, 6 - touched.stop)).T, expected)


def test_a_grid_is_a_pytree_of_its_values() -> None:
    """What cuts rows or detaches finds the tensor, and the geometry stays."""
    grid = OnGrid(torch.randn(3, 2, 4, 4), 8, corners=True)
    row = pytree.tree_map_only(Tensor, lambda leaf: leaf[1:2], grid)
    assert torch.equal(row.values, grid.values[1:2])
    assert (row.stride, row.corners) == (8, True)
