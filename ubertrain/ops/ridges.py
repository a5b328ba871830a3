"""Thin lines from a blurred map of lines."""

import math

import torch
from torch import Tensor

_SLACK = 1.01
"""A pixel stays unless a neighbour across the line is larger by more than this factor."""
_BORDER = 5
"""Pixels along which what stays fades towards the border of the map, where directions are not to be trusted."""


def ridges(strength: Tensor) -> Tensor:
    """The slightly blurred `strength` where it is maximal across the line it lies on, and 0 elsewhere.

    Non-maximum suppression as Structured Edges does it (Dollar and Zitnick, PAMI 2015, and their published toolbox), which
    nearly all figures on BSDS500 since were made with: the map is blurred by a triangle filter of radius 1; the direction
    across the line comes from second differences of the map blurred by radius 4; a pixel stays if its value times 1.01 is not
    below that one pixel ahead or behind in that direction, read between pixels. Values fade to 0 over the 5 pixels along the
    border.

    A wide plateau stays as it is: a constant map says nothing about where its lines are.

    Args:
        strength: (rows, height, width), float, from 0 to 1.

    Returns:
        The same shape and dtype; computed in float64, so that rounding does not decide which pixels stay.
    """
    if not strength.numel():
        return strength.clone()
    sharp = _blurred(strength.double(), 1)
    down, across = _direction(_blurred(sharp, 4))
    height, width = strength.shape[-2:]
    y = torch.arange(height, device=strength.device)[:, None]
    x = torch.arange(width, device=strength.device)
    stays = torch.ones_like(sharp, dtype=torch.bool)
    for step in (1, -1):
        stays &= sharp * _SLACK >= _read(sharp, y + step * down, x + step * across)
    reach = min(_BORDER, height // 2, width // 2)
    fade = _fade(height, reach, sharp)[:, None] * _fade(width, reach, sharp)
    return torch.where(stays, sharp * fade, 0.0).to(strength.dtype)


def _blurred(values: Tensor, radius: int) -> Tensor:
    """`values` (rows, height, width) under a triangle filter, along both sides; the map is mirrored at its border."""
    weights = torch.tensor([radius + 1 - abs(step) for step in range(-radius, radius + 1)]) / (radius + 1) ** 2
    for dim in (1, 2):
        size = values.shape[dim]
        place = torch.arange(-radius, size + radius, device=values.device) % (2 * size)
        mirrored = values.index_select(dim, torch.minimum(place, 2 * size - 1 - place))
        values = sum(weight * mirrored.narrow(dim, step, size) for step, weight in enumerate(weights.tolist()))
    return values


def _direction(values: Tensor) -> tuple[Tensor, Tensor]:
    """The direction (y, x) across the line at each pixel, each (rows, height, width), from second differences."""
    dx, dy = _difference(values, 2), _difference(values, 1)
    xx, xy, yy = _difference(dx, 2), _difference(dx, 1), _difference(dy, 1)
    towards = torch.where(xy > 0, -1.0, 1.0)  # the toolbox has 0 where xy is 0, which loses lines along the rows
    angle = torch.atan(yy * towards / (xx + 1e-5)) % math.pi
    return angle.sin(), angle.cos()


def _difference(values: Tensor, dim: int) -> Tensor:
    """Half the difference of both neighbours; at the border, the difference to the only one."""
    if values.shape[dim] < 2:
        return torch.zeros_like(values)
    return torch.gradient(values, dim=dim)[0]


def _read(values: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """`values` (rows, height, width) at the points (y, x), each (rows, height, width), counted in pixels, bilinearly."""
    height, width = values.shape[-2:]
    y, x = y.clamp(0, max(height - 1.001, 0)), x.clamp(0, max(width - 1.001, 0))  # 1.001 as in the toolbox
    top, left = y.long(), x.long()
    dy, dx = y - top, x - left
    flat = values.flatten(1)

    def at(row: Tensor, column: Tensor) -> Tensor:
        place = row.clamp(max=height - 1) * width + column.clamp(max=width - 1)
        return flat.gather(1, place.flatten(1)).view_as(values)

    above = at(top, left) * (1 - dx) + at(top, left + 1) * dx
    below = at(top + 1, left) * (1 - dx) + at(top + 1, left + 1) * dx
    return above * (1 - dy) + below * dy


def _fade(size: int, reach: int, like: Tensor) -> Tensor:
    """Factors (size,) that rise from 0 at either end to 1, `reach` pixels further in."""
    place = torch.arange(size, device=like.device)
    distance = torch.minimum(place, size - 1 - place).to(like.dtype)
    return (distance / max(reach, 1)).clamp(max=1) if reach else torch.ones_like(distance)
