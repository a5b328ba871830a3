"""The two kernels of a fully connected CRF over the pixels of images, as filters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ubertrain.ops.bags import Bags
from ubertrain.ops.permutohedral import Lattice, lattice

_WIDEST_PASS = 2.0
"""Standard deviation in pixels from which on a Gaussian of positions is filtered on a lattice."""
_REACH = 4.0
"""Standard deviations at which a narrow Gaussian is cut."""


class Passes:
    """A narrow Gaussian of pixel positions: exact, but for what is cut, by one pass down the columns and one along the rows.

    Args:
        shape: (rows, height, width).
        std: in pixels.
        symmetric: whether to normalise, see `kernels`.
        like: of the dtype and device of the values.
    """

    def __init__(self, shape: Sequence[int], std: float, symmetric: bool, like: Tensor) -> None:
        self.rows, self.height, self.width = shape
        self.down = _pass(self.height, std, symmetric, like).repeated(self.rows, self.height)
        self.along = _pass(self.width, std, symmetric, like).repeated(self.rows * self.height, self.width)

    def filter(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """`K @ values` for `values` (rows * height * width, channels); `transposed` changes nothing, K is symmetric."""
        channels = values.shape[1]
        values = self.down @ values.view(self.rows * self.height, self.width * channels)
        return self.along @ values.view(-1, channels)


Kernel = Lattice | Passes


def _pass(length: int, std: float, symmetric: bool, like: Tensor) -> Bags:
    """The (length, length) Gaussian of positions along one axis. (Normalised Gaussians multiply to a normalised one.)"""
    reach = min(math.ceil(_REACH * std), length - 1)
    offsets = torch.arange(-reach, reach + 1, device=like.device)
    at = torch.arange(length, device=like.device)[:, None] + offsets
    there = (at >= 0) & (at < length)
    gauss = (-0.5 * (offsets / std).to(like.dtype).square()).exp() * there
    if symmetric:
        scale = gauss.sum(dim=1).rsqrt()
        gauss = gauss * scale[:, None] * scale[at.clamp(0, length - 1)]
    return Bags.of_band(gauss)


def kernels(images: Tensor, widths: Sequence[float], symmetric: bool, like: Tensor) -> tuple[Lattice, Kernel]:
    """The appearance and the smoothness kernel.

        k1(i, j) = exp(-|p_i - p_j|^2 / 2 sa^2 - |I_i - I_j|^2 / 2 sb^2)
        k2(i, j) = exp(-|p_i - p_j|^2 / 2 sg^2)

    Args:
        images: (rows, 3, height, width) in 0..255.
        widths: sa in pixels, sb in levels, sg in pixels.
        symmetric: whether to divide k(i, j) by sqrt(sum_j' k(i, j')) sqrt(sum_i' k(i', j)).
        like: of the dtype and device of the values.

    Returns:
        Filters of values (rows * height * width, channels), pixel by pixel; images do not see each other.
    """
    rows, _, height, width = images.shape
    appearance_xy, appearance_rgb, smoothness_xy = widths
    y, x = (torch.arange(side, dtype=like.dtype, device=like.device) for side in (height, width))
    positions = (
        torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).view(1, -1, 2).expand(rows, -1, -1)
    )
    colours = images.to(like.dtype).flatten(2).mT
    appearance = _scaled(lattice(torch.cat([positions / appearance_xy, colours / appearance_rgb], dim=-1)), symmetric)
    if smoothness_xy < _WIDEST_PASS:
        return appearance, Passes((rows, height, width), smoothness_xy, symmetric, like)
    return appearance, _scaled(lattice(positions / smoothness_xy), symmetric)


def entries(widths: Sequence[float]) -> int:
    """Nonzeros per pixel of both kernels' matrices, if the appearance lattice has a point per pixel."""
    # Six corners per pixel, twice; six directions with two neighbours at most, about half of which exist; where bags start.
    smoothness = 2 * math.ceil(_REACH * widths[-1]) + 1 if widths[-1] < _WIDEST_PASS else 10
    return 31 + smoothness


def _scaled(kernel: Lattice, symmetric: bool) -> Lattice:
    if not symmetric:
        return kernel
    ones = kernel.read.weights.new_ones(len(kernel.read.starts), 1)
    return kernel.scaled(kernel.filter(ones).squeeze(1).rsqrt())
