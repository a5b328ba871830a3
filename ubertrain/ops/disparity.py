"""Two views of one scene, shifted along rows: one made from the other, and how alike they are."""

import torch
import torch.nn.functional as F
from torch import Tensor

_STEADY = (0.01**2, 0.03**2)
"""The constants C1 and C2 of the structural similarity, for values from 0 to 1."""


def shifted(values: Tensor, shift: Tensor) -> Tensor:
    """What stands `shift` pixels further right in `values`, by linear interpolation along the rows.

    Args:
        values: (rows, channels, height, width) float; it goes on beyond its sides as it ends there.
        shift: (rows, height, width), in pixels; negative is to the left.

    Returns:
        (rows, channels, height, width): at column x the value at x + shift, nan where that is. Differentiable in both.
    """
    height, width = values.shape[-2:]
    lost = shift.isnan()  # for which grid_sample answers a number, and crashes in its backward on a CPU
    x = torch.arange(width, device=values.device, dtype=values.dtype) + 0.5 + shift.masked_fill(lost, 0.0)
    y = (torch.arange(height, device=values.device, dtype=values.dtype) + 0.5)[:, None].expand_as(x)
    grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=-1)
    moved = F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.masked_fill(lost[:, None], torch.nan)


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """(1 - SSIM) / 2 from 0 (alike) to 1, over 3 x 3 windows by plain averages (Godard et al. 2017), mean over channels.

    Args:
        a: (rows, channels, height, width), from 0 to 1.
        b: of the same shape.

    Returns:
        (rows, height, width), for the window around each pixel; those over the border mean nothing, see `whole_windows`.
    """
    mean_a, mean_b = _mean(a), _mean(b)
    spread_a, spread_b = _mean(a * a) - mean_a**2, _mean(b * b) - mean_b**2
    common = _mean(a * b) - mean_a * mean_b
    light, contrast = _STEADY
    above = (2 * mean_a * mean_b + light) * (2 * common + contrast)
    below = (mean_a**2 + mean_b**2 + light) * (spread_a + spread_b + contrast)
    return ((1 - above / below) / 2).clamp(0, 1).mean(dim=1)


def whole_windows(valid: Tensor) -> Tensor:
    """Pixels (rows, height, width) bool all of whose 3 x 3 window lies inside the image and is valid."""
    return F.avg_pool2d(valid.float(), 3, stride=1, padding=1) > 0.999


def _mean(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 3, stride=1, padding=1)
