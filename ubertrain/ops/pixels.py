"""Maps of one value per pixel: brought to an image's size, averaged over the pixels that have a label."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def to_size(values: Tensor, size: Sequence[int]) -> Tensor:
    """`values` (..., height, width) cut or, by repeating the border, continued at the right and at the bottom.

    A trunk whose stride does not divide the image's size covers slightly more or less than the image, beginning at its
    corner. Cutting keeps every pixel where it is; resizing would shift them.

    Args:
        values: of any dtype.
        size: (height, width) of the result.
    """
    height, width = size
    values = values[..., :height, :width]
    below, beside = height - values.shape[-2], width - values.shape[-1]
    if below or beside:
        rows = torch.arange(height, device=values.device).clamp(max=values.shape[-2] - 1)
        columns = torch.arange(width, device=values.device).clamp(max=values.shape[-1] - 1)
        values = values[..., rows[:, None], columns]
    return values


def enlarge(values: Tensor, factor: float) -> Tensor:
    """`values` (rows, channels, height, width) with `factor` times as many pixels along each side, bilinearly.

    A pixel becomes the block of pixels that it covers (align_corners=False).
    """
    if factor == 1:
        return values
    size = (round(values.shape[-2] * factor), round(values.shape[-1] * factor))
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)


def full_precision(values: Tensor) -> Tensor:
    """`values` with at least 32 bits, whatever autocast made of them."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def valid_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of every image, shape (rows,).

    Args:
        values: (rows, ...), float; what it holds elsewhere, nan included, has no effect.
        valid: (rows, ...), bool.

    Returns:
        Exactly 0 for an image without a valid pixel, connected to `values` with a gradient of 0.
    """
    kept = torch.where(valid, values, torch.zeros_like(values)).flatten(1)
    return kept.sum(dim=1) / valid.flatten(1).sum(dim=1).clamp(min=1)
