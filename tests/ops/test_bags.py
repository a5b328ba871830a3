import pytest
import torch

from ubertrain.ops.bags import Bags


def test_a_product_is_the_dense_matrix_product() -> None:
    """Rows without entries, and columns that appear twice in a row, included."""
    bags = Bags(
        torch.tensor([2, 0, 2, 1], dtype=torch.int32),
        torch.tensor([1.0, 2.0, 0.5, -3.0]),
        torch.tensor([0, 3, 3], dtype=torch.int32),
    )
    matrix = torch.tensor([[2.0, 0.0, 1.5], [0.0, 0.0, 0.0], [0.0, -3.0, 0.0]])
    dense = torch.randn(3, 5)
    torch.testing.assert_close(bags @ dense, matrix @ dense)
    torch.testing.assert_close(bags.dense(3), matrix)


@pytest.mark.parametrize(("length", "reach"), [(1, 0), (1, 2), (3, 5), (6, 2)])
def test_a_band_lies_around_the_diagonal(length: int, reach: int) -> None:
    """Entry (i, j) of the matrix is the band's (i, j - i + reach)."""
    band = torch.randn(length, 2 * reach + 1)
    expected = torch.zeros(length, length)
    for i in range(length):
        for j in range(max(0, i - reach), min(length, i + reach + 1)):
            expected[i, j] = band[i, j - i + reach]
    torch.testing.assert_close(Bags.of_band(band).dense(length), expected)


def test_repeated_is_block_diagonal() -> None:
    """Every block works on its own part of the values."""
    band = torch.randn(4, 3)
    block = Bags.of_band(band).dense(4)
    torch.testing.assert_close(Bags.of_band(band).repeated(3, 4).dense(12), torch.block_diag(block, block, block))
