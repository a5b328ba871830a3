import pytest
import torch
from torch import Tensor

from ubertrain.errors import UbertrainError
from ubertrain.ops.crf_exact import gaussian
from ubertrain.ops.permutohedral import Lattice, lattice


def scattered(points: int, d: int, spread: float = 4.0) -> Tensor:
    """Random features of one row."""
    return torch.rand(1, points, d, dtype=torch.double) * spread


def dense(kernel: Lattice, points: int, *, transposed: bool = False) -> Tensor:
    """The filter's matrix."""
    return kernel.filter(torch.eye(points, dtype=torch.double), transposed=transposed)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_the_filter_is_splat_blur_slice(d: int) -> None:
    """K is the product of the explicit matrices, and `transposed` the product in reverse."""
    kernel = lattice(scattered(40, d))
    size = len(kernel.splat.starts)
    splat, read = kernel.splat.dense(40), kernel.read.dense(size)
    middle = torch.eye(size, dtype=torch.double)
    for blur in kernel.blurs:
        middle = blur.dense(size) @ middle
    torch.testing.assert_close(splat, read.T)
    torch.testing.assert_close(dense(kernel, 40), read @ middle @ splat)
    torch.testing.assert_close(dense(kernel, 40, transposed=True), read @ middle.T @ splat)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_weights_of_a_point_are_barycentric(d: int) -> None:
    """They are not negative and, before the filter's constant factor, sum to 1."""
    kernel = lattice(scattered(200, d))
    weights = kernel.read.weights.view(200, d + 1)
    assert (weights >= -1e-12).all()
    torch.testing.assert_close(weights.sum(dim=1), weights.sum(dim=1)[:1].expand(200))


@pytest.mark.parametrize("d", [1, 2])
def test_points_lie_where_their_weights_say(d: int) -> None:
    """Points that differ little have nearly the same corners and weights: the corners' mean moves along with the point."""
    line = torch.linspace(0, 3, 400, dtype=torch.double)[:, None] * torch.ones(d, dtype=torch.double)
    kernel = dense(lattice(line[None]), 400)
    assert (kernel.diff(dim=0).abs().amax() < 0.05 * kernel.amax()).item()


@pytest.mark.parametrize("d", [1, 2, 3])
def test_blurs_connect_neighbours(d: int) -> None:
    """On a fully filled lattice, the sum over a row of each blur is 2 in its interior, and each matrix is symmetric."""
    kernel = lattice(scattered(1500, d, 2.0))
    size = len(kernel.splat.starts)
    for blur in kernel.blurs:
        matrix = blur.dense(size)
        torch.testing.assert_close(matrix, matrix.T)
        assert matrix.diagonal().eq(1).all()
        assert matrix.sum(dim=1).max() == 2


@pytest.mark.parametrize("transposed", [False, True])
def test_the_transposed_filter_is_the_adjoint(transposed: bool) -> None:
    """<K x, y> = <x, K^T y>."""
    kernel = lattice(scattered(300, 5))
    x, y = torch.randn(2, 300, 4, dtype=torch.double)
    left = (kernel.filter(x, transposed=transposed) * y).sum()
    torch.testing.assert_close(left, (x * kernel.filter(y, transposed=not transposed)).sum())


@pytest.mark.parametrize(("d", "points"), [(1, 500), (2, 1500), (3, 3000)])
def test_a_dense_cloud_is_filtered_as_by_the_gaussian(d: int, points: int) -> None:
    """A smooth function of densely scattered points comes out within 10 % of the exact filter away from the rim."""
    features = scattered(points, d, 8.0)
    values = features[0, :, :1].sin() + 2
    got, expected = lattice(features).filter(values), gaussian(features[0]) @ values
    inside = ((features[0] > 2) & (features[0] < 6)).all(dim=1)
    assert inside.sum() > 50
    torch.testing.assert_close(got[inside], expected[inside], rtol=0.1, atol=0)


def test_the_gain_is_the_gaussians() -> None:
    """The mean of many filtered constants is the exact filter's, in five dimensions too: the constant factor is right."""
    features = scattered(2500, 5, 2.5)
    ones = torch.ones(2500, 1, dtype=torch.double)
    ratio = lattice(features).filter(ones) / (gaussian(features[0]) @ ones)
    middle = ((features[0] > 0.6) & (features[0] < 1.9)).all(dim=1)
    assert 0.9 < ratio[middle].mean() < 1.1


def test_far_points_do_not_meet() -> None:
    """Points 20 standard deviations apart get nothing from each other; each gets something from itself."""
    kernel = dense(lattice(torch.tensor([[[0.0, 0.0], [20.0, 0.0], [0.0, -20.0]]], dtype=torch.double)), 3)
    assert kernel.diagonal().gt(0.1).all()
    assert kernel.fill_diagonal_(0).eq(0).all()


def test_rows_do_not_see_each_other() -> None:
    """A batch's filter is block diagonal, each block as for the row alone."""
    features = torch.cat([scattered(30, 3), scattered(30, 3), torch.zeros(1, 30, 3, dtype=torch.double)])
    alone = [dense(lattice(row[None]), 30) for row in features]
    torch.testing.assert_close(dense(lattice(features), 90), torch.block_diag(*alone))


def test_a_shift_changes_little() -> None:
    """The lattice is the same around every point: a cloud moved by a lattice vector has exactly the same filter."""
    features = scattered(50, 2)
    # One step of the lattice along its first direction, seen in feature space.
    basis = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, -2.0]], dtype=torch.double)
    basis = basis * 3 * (2 / 3) ** 0.5 / torch.tensor([2.0, 6.0], dtype=torch.double).sqrt()
    moved = features + torch.linalg.lstsq(basis, torch.tensor([[-2.0], [1.0], [1.0]], dtype=torch.double)).solution.T
    torch.testing.assert_close(dense(lattice(moved), 50), dense(lattice(features), 50))


def test_scaled_multiplies_both_sides() -> None:
    """scaled(s) is diag(s) K diag(s), transposed as well."""
    kernel, factors = lattice(scattered(25, 3)), torch.rand(25, dtype=torch.double)
    scaled, matrix = kernel.scaled(factors), dense(kernel, 25)
    torch.testing.assert_close(dense(scaled, 25), factors[:, None] * matrix * factors)
    torch.testing.assert_close(dense(scaled, 25, transposed=True), factors[:, None] * matrix.T * factors)


def test_channels_take_turns_where_the_lattice_is_larger() -> None:
    """A lattice with more points than the picture gives the same, channel by channel."""
    kernel = lattice(scattered(60, 5, 100.0))
    assert len(kernel.splat.starts) > 60
    values = torch.randn(60, 7, dtype=torch.double)
    expected = torch.cat([kernel.filter(channel) for channel in values.split(1, dim=1)], dim=1)
    torch.testing.assert_close(kernel.filter(values), expected)


def test_equal_points_are_one_point() -> None:
    """Points at the same place exchange all they have."""
    kernel = dense(lattice(torch.full((1, 4, 5), 1.7, dtype=torch.double)), 4)
    torch.testing.assert_close(kernel, kernel[:1, :1].expand(4, 4))


def test_too_many_lattice_points_to_number() -> None:
    """Features too far apart to be numbered are refused, and the error says what to do."""
    features = torch.tensor([[[0.0] * 5, [1e5] * 5]])
    with pytest.raises(UbertrainError, match="use wider kernels"):
        lattice(features)
