"""Losses between log depth and depth, one value per image."""

import torch
from torch import Tensor

from ubertrain.ops.pixels import valid_mean

SCALES = 4
"""At which gradients are compared: every pixel, every second, fourth and eighth."""
_KNEE = 0.2
"""Where the reverse Huber loss bends, as a share of the largest difference."""


def scale_invariant(apart: Tensor, valid: Tensor, invariance: float) -> Tensor:
    """mean d^2 - invariance (mean d)^2 of d = ln p - ln t (Eigen et al. 2014, equation 4), (rows,).

    With `invariance` 0 it is the mean square, with 1 the variance, which does not see the scale of the prediction.

    Args:
        apart: d, (rows, height, width); what it holds elsewhere has no effect.
        valid: (rows, height, width) bool.
        invariance: the paper's lambda, 0.5.
    """
    return valid_mean(apart**2, valid) - invariance * valid_mean(apart, valid) ** 2


def reverse_huber(apart: Tensor, valid: Tensor) -> Tensor:
    """Mean of |x| up to c and (x^2 + c^2) / 2c beyond (Laina et al. 2016, equation 2), (rows,).

    c is a fifth of the largest |x| of each image, as a constant: no gradient flows through it. (The paper takes the largest of
    the batch, by which the loss of an image would depend on the others.)

    Args:
        apart: x, (rows, height, width), the difference in metres.
        valid: (rows, height, width) bool.
    """
    size = torch.where(valid, apart, torch.zeros_like(apart)).abs()
    knee = (_KNEE * size.detach().amax(dim=(-2, -1), keepdim=True)).clamp(min=torch.finfo(size.dtype).tiny ** 0.5)
    return valid_mean(torch.where(size <= knee, size, (size**2 + knee**2) / (2 * knee)), valid)


def gradient_matching(apart: Tensor, valid: Tensor) -> Tensor:
    """Mean |dR/dx| + |dR/dy| of R = ln p - ln t, summed over four scales, (rows,).

    It asks that depth changes where the truth does (Li and Snavely 2018, equation 4; Ranftl et al. 2020, equation 11). Scale s
    keeps every 2^s-th pixel; differences count between two valid neighbours and are divided by the number of valid pixels.

    Args:
        apart: R, (rows, height, width).
        valid: (rows, height, width) bool.
    """
    total = apart.new_zeros(len(apart))
    for step in (2**scale for scale in range(SCALES)):
        part, known = apart[:, ::step, ::step], valid[:, ::step, ::step]
        part = torch.where(known, part, torch.zeros_like(part))
        across = (part[:, :, 1:] - part[:, :, :-1]).abs() * (known[:, :, 1:] & known[:, :, :-1])
        down = (part[:, 1:] - part[:, :-1]).abs() * (known[:, 1:] & known[:, :-1])
        changes = across.flatten(1).sum(dim=1) + down.flatten(1).sum(dim=1)
        total = total + changes / known.flatten(1).sum(dim=1).clamp(min=1)
    return total
