"""Losses of boundary maps, balanced between the few pixels that are boundaries and the many that are none."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.ops.pixels import valid_mean


def balanced_loss(logits: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Half the mean of -log p over boundary pixels and half the mean of -log(1 - p) over others, (rows,) nats.

    It is the class-balanced cross-entropy of HED (Xie and Tu 2015, equation 2), -beta sum_yes log p - (1 - beta) sum_no
    log(1 - p) with beta the share of `no`, divided by 2 beta (1 - beta) times the number of pixels: images with few and with
    many boundaries weigh the same. An image without a boundary has the second half only.

    Args:
        logits: (rows, height, width).
        yes: the boundary pixels, bool, of the same shape.
        no: the others; what is neither has no part in it.
    """
    return (valid_mean(F.softplus(-logits), yes) + valid_mean(F.softplus(logits), no)) / 2


def bag_loss(logits: Tensor, yes: Tensor, no: Tensor, radius: float) -> Tensor:
    """As `balanced_loss`, for boundaries that are drawn up to `radius` pixels off: multiple-instance learning (Kokkinos 2016).

    Each boundary pixel j stands for a bag B_j, the labelled pixels at most `radius` away, of which one must be a boundary: its
    loss is -log max over i in B_j of p_i. Pixels in a bag are not asked to be none; `no` counts outside of all bags.

    Args:
        logits: (rows, height, width).
        yes: the annotated boundary pixels, bool, of the same shape.
        no: pixels that nobody drew on; what is neither has no part in it, but may be in a bag.
        radius: in pixels; 0 is `balanced_loss`.
    """
    best = widened(logits, radius)
    bags = widened(yes.to(logits.dtype), radius) > 0
    return (valid_mean(F.softplus(-best), yes) + valid_mean(F.softplus(logits), no & ~bags)) / 2


def widened(values: Tensor, radius: float) -> Tensor:
    """The largest of `values` (rows, height, width), float, at most `radius` pixels from each pixel.

    The disc is a union of upright rectangles, one for each number of rows, and the largest value in it that in one of these.
    """
    result = values
    for dy in range(int(radius) + 1):
        dx = int(math.sqrt(radius**2 - dy**2))
        inner = F.max_pool2d(values[:, None], (2 * dy + 1, 2 * dx + 1), stride=1, padding=(dy, dx))[:, 0]
        result = inner if dy == 0 else torch.maximum(result, inner)
    return result


def class_boundary_loss(logits: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """The multi-label loss of CASENet (Yu et al., CVPR 2017, equation 1) up to a factor of the image, (rows,) nats.

    -sum over classes of [beta sum_yes log p + (1 - beta) sum_no log(1 - p)], where beta is the share of pixels that are on no
    class's boundary: all classes of an image are balanced alike, whichever it shows. It is divided by 2 beta (1 - beta) times
    the number of pixels, as `balanced_loss`, which it equals for one class.

    Args:
        logits: (rows, classes, height, width).
        yes: the boundary pixels of each class, bool, of the same shape.
        no: the others; what is neither has no part in it.
    """
    edge = yes.any(dim=1)
    others = (yes | no).any(dim=1) & ~edge
    missed = torch.where(yes, F.softplus(-logits), 0.0).sum(dim=(1, 2, 3)) / edge.sum(dim=(1, 2)).clamp(min=1)
    invented = torch.where(no, F.softplus(logits), 0.0).sum(dim=(1, 2, 3)) / others.sum(dim=(1, 2)).clamp(min=1)
    return (missed + invented) / 2
