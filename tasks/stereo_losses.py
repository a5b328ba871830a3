"""What two views say about each other's disparity (Godard, Mac Aodha and Brostow 2017)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.ops.disparity import dissimilarity, shifted, whole_windows
from ubertrain.ops.pixels import valid_mean


@dataclass(frozen=True)
class Views:
    """Both views at one scale.

    Attributes:
        own: (rows, 3, height, width) from 0 to 1, the image.
        other: the same of the other camera.
        valid: (rows, height, width) bool.
        side: (rows, 1, 1), 1 where the other camera stands to the right of the image's, -1 where to the left.
        width: of the image in this scale's pixels, in which shifts are measured; its grid may be a little wider.
    """

    own: Tensor
    other: Tensor
    valid: Tensor
    side: Tensor
    width: float


@dataclass(frozen=True)
class Weights:
    """Of the terms of the loss.

    Attributes:
        similarity: the share of structural similarity against absolute difference in the appearance term: alpha.
        smoothness: of the edge-aware smoothness; the paper has 0.1.
        consistency: of the agreement between both disparities; the paper has 1.
    """

    similarity: float = 0.85
    smoothness: float = 0.1
    consistency: float = 1.0


def pyramid(target: Mapping[str, Tensor], scales: int, dtype: torch.dtype) -> list[Views]:
    """A collated stereo annotation at full, half, ... resolution, by averages over blocks."""
    own, other = (target[name].to(dtype) / 255 for name in ("own", "other"))
    valid, side, width = target["valid"].to(dtype)[:, None], target["side"].to(dtype).view(-1, 1, 1), float(own.shape[-1])
    views = []
    for scale in range(scales):
        if scale:
            own, other, valid = (F.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False) for part in (own, other, valid))
        views.append(Views(own, other, valid[:, 0] > 0.999, side, width / 2**scale))
    return views


def pair_loss(disparities: Sequence[tuple[Tensor, Tensor]], pyramid: Sequence[Views], weights: Weights) -> Tensor:
    """Appearance + smoothness + consistency, for both views and summed over the scales, (rows,).

    Args:
        disparities: of the image and of the other view at each scale, both (rows, height, width), shares of the width.
        pyramid: as many scales, of the same sizes.
        weights: of the terms.
    """
    total = disparities[0][0].new_zeros(len(disparities[0][0]))
    for scale, ((own, other), views) in enumerate(zip(disparities, pyramid, strict=True)):
        to_other, to_own = -views.side * own * views.width, views.side * other * views.width
        appearance = _appearance(views.own, views.other, to_other, views.valid, weights.similarity)
        appearance = appearance + _appearance(views.other, views.own, to_own, views.valid, weights.similarity)
        smoothness = _roughness(own, views.own, views.valid) + _roughness(other, views.other, views.valid)
        consistency = _disagreement(own, other, to_other, views.valid) + _disagreement(other, own, to_own, views.valid)
        total = total + appearance + weights.smoothness / 2**scale * smoothness + weights.consistency * consistency
    return total


def _appearance(view: Tensor, source: Tensor, shift: Tensor, valid: Tensor, similarity: float) -> Tensor:
    """How far `view` differs from itself made of `source`, (rows,)."""
    made, seen = shifted(source, shift), valid & _visible(valid, shift)
    structure = valid_mean(dissimilarity(view, made), whole_windows(seen))
    return similarity * structure + (1 - similarity) * valid_mean((view - made).abs().mean(dim=1), seen)


def _disagreement(mine: Tensor, theirs: Tensor, shift: Tensor, valid: Tensor) -> Tensor:
    """Mean difference between a disparity and the other view's at the place it points to, (rows,)."""
    return valid_mean((mine - shifted(theirs[:, None], shift)[:, 0]).abs(), valid & _visible(valid, shift))


def _visible(valid: Tensor, shift: Tensor) -> Tensor:
    """Pixels (rows, height, width) whose counterpart is no padding."""
    return shifted(valid.to(shift.dtype)[:, None], shift.detach())[:, 0] > 0.999


def _roughness(disparity: Tensor, view: Tensor, valid: Tensor) -> Tensor:
    """Mean |change of disparity| e^(-|change of the view|) across and down, (rows,)."""
    total = disparity.new_zeros(len(disparity))
    for axis in (-1, -2):
        change, edge = disparity.diff(dim=axis).abs(), view.diff(dim=axis).abs().mean(dim=1)
        size = valid.shape[axis] - 1
        both = valid.narrow(axis, 0, size) & valid.narrow(axis, 1, size)
        total = total + valid_mean(change * (-edge).exp(), both)
    return total
