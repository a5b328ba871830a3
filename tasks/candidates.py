"""Tables of candidate boxes, a fixed number for every image: what both stages of a detector do with them."""

from torch import Tensor, nn


def take(values: Tensor, index: Tensor) -> Tensor:
    """`values` (rows, N, ...) at `index` (rows, K): (rows, K, ...)."""
    return values.gather(1, index.view(*index.shape, *[1] * (values.ndim - 2)).expand(*index.shape, *values.shape[2:]))


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """One number per image: the weighted sum of `values` (rows, N) over N. The count is fixed, so no image sways another."""
    return (values * weights).sum(dim=1) / values.shape[1]


def quiet(layer: nn.Conv2d | nn.Linear, deviation: float) -> nn.Module:
    """`layer`, an output layer, so that it says almost nothing at first (Fast R-CNN's deviations, section 2.3)."""
    nn.init.normal_(layer.weight, std=deviation)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
