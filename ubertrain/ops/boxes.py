"""Arithmetic of boxes: x0 y0 x1 y1 in pixels, continuous, in the last dimension of a float tensor.

Everything broadcasts over leading dimensions, works on fake tensors and never divides by the area of an empty box.
"""

import math

import torch
from torch import Tensor

LARGEST_GROWTH = math.log(1000 / 16)
"""Upper limit of a decoded log-size ratio, so that an untrained network cannot overflow `exp` (Detectron's constant)."""


def area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4), in square pixels; a box with x1 < x0 or y1 < y0 has area 0."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    """Areas (..., N, M) shared by each of a (..., N, 4) with each of b (..., M, 4)."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    width, height = (
        torch.minimum(a[..., i + 2], b[..., i + 2]).sub_(torch.maximum(a[..., i], b[..., i])).clamp_(min=0) for i in (0, 1)
    )
    return width * height


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (..., N, M) of each of a (..., N, 4) with each of b (..., M, 4); 0 where both are empty."""
    shared = _intersection(a, b)
    union = area(a)[..., :, None] + area(b)[..., None, :] - shared
    return shared / union.clamp(min=torch.finfo(a.dtype).tiny)


def coverage(a: Tensor, b: Tensor) -> Tensor:
    """The part (..., N, M) of each of a (..., N, 4) that lies within each of b (..., M, 4): intersection over area of `a`."""
    return _intersection(a, b) / area(a)[..., :, None].clamp(min=torch.finfo(a.dtype).tiny)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) cut to an image of `size` = (height, width)."""
    height, width = size
    return torch.stack([boxes[..., i].clamp(0, (width, height)[i % 2]) for i in range(4)], dim=-1)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Where `boxes` lie as seen from `anchors`, (..., 4): what a box regressor is trained to say.

    Faster R-CNN (Ren et al. 2015), equation 2: t_x = (x - x_a) / w_a, t_y = (y - y_a) / h_a, t_w = log(w / w_a),
    t_h = log(h / h_a), with x, y the centres. Sides below 1e-3 pixels (padding) count as that, so the result is finite.
    """
    (centre, size), (anchor_centre, anchor_size) = _centre_and_size(boxes), _centre_and_size(anchors)
    size, anchor_size = size.clamp(min=1e-3), anchor_size.clamp(min=1e-3)
    return torch.cat([(centre - anchor_centre) / anchor_size, (size / anchor_size).log()], dim=-1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The boxes (..., 4) that lie at `deltas` from `anchors`: the inverse of `encode`. Growth is limited to 1000 / 16."""
    centre, size = _centre_and_size(anchors)
    centre = centre + deltas[..., :2] * size
    size = size * deltas[..., 2:].clamp(max=LARGEST_GROWTH).exp()
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)
