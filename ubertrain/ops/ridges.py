"""Thin lines from a blurred map of lines."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SLACK = 1.001
"""Neighbours count as equal up to this factor, so that rounding does not decide on a plateau."""


def ridges(strength: Tensor) -> Tensor:
    """`strength` (rows, height, width), float >= 0, where it is maximal across the line it lies on, and 0 elsewhere.

    Non-maximum suppression as for structured edges (Dollar and Zitnick, PAMI 2015): the direction across the line is that of
    the strongest curvature, and a pixel stays if neither neighbour in that direction, read between pixels, is larger. Both are
    judged on a slightly blurred map, so that a flat-topped line of a few pixels is thinned too. A wide plateau stays as it is:
    a constant map says nothing about where its lines are. Within some pixels of the border a line may keep some of its width.
    """
    sharp = _blurred(strength[:, None].double(), 1.0)  # rounding differs with the batch; let it decide on nothing
    down, across = _normals(_blurred(sharp, 1.5))
    rows, height, width = strength.shape
    y = torch.arange(height, device=strength.device, dtype=sharp.dtype)[:, None]
    x = torch.arange(width, device=strength.device, dtype=sharp.dtype)
    kept = torch.ones(rows, height, width, dtype=torch.bool, device=strength.device)
    for step in (1, -1):
        neighbour = _read(sharp, y + step * down, x + step * across)
        kept &= sharp[:, 0] * _SLACK >= neighbour
    return torch.where(kept, strength, torch.zeros_like(strength))


def _blurred(values: Tensor, sigma: float) -> Tensor:
    """`values` (rows, 1, height, width) under a Gaussian of `sigma` pixels; outside, the border is repeated."""
    reach = math.ceil(2.5 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(values, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def _normals(values: Tensor) -> tuple[Tensor, Tensor]:
    """Unit directions (y, x), each (rows, height, width), in which `values` (rows, 1, height, width) curves most."""
    v = F.pad(values, (1, 1, 1, 1), mode="replicate")[:, 0]
    xx = v[:, 1:-1, 2:] - 2 * v[:, 1:-1, 1:-1] + v[:, 1:-1, :-2]
    yy = v[:, 2:, 1:-1] - 2 * v[:, 1:-1, 1:-1] + v[:, :-2, 1:-1]
    xy = (v[:, 2:, 2:] - v[:, 2:, :-2] - v[:, :-2, 2:] + v[:, :-2, :-2]) / 4
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)  # of the eigenvector of the Hessian's larger eigenvalue
    angle = torch.where(xx + yy < 0, angle + math.pi / 2, angle)  # the smaller one is larger in absolute terms
    return angle.sin(), angle.cos()


def _read(values: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """`values` (rows, 1, height, width) at the points (y, x), each (rows, height, width), counted in pixels, bilinearly."""
    height, width = values.shape[-2:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]
