"""The mean field of `ubertrain.ops.crf` with every pair of pixels written out: for small images, and to check the fast form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gaussian(features: Tensor) -> Tensor:
    """exp(-|f_i - f_j|^2 / 2), (..., N, N), of features (..., N, d)."""
    return torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square_().mul_(-0.5).exp_()


def symmetric(kernel: Tensor) -> Tensor:
    """k(i, j) / sqrt(sum_j' k(i, j')) / sqrt(sum_i' k(i', j)), of kernels (..., N, N)."""
    scale = kernel.sum(dim=-1).rsqrt()
    return scale[..., :, None] * kernel * scale[..., None, :]


def exact_kernels(images: Tensor, widths: Sequence[float], *, normalised: bool = True) -> Tensor:
    """(2, rows, N, N): the appearance and the smoothness kernel of every image.

    Args:
        images: (rows, 3, height, width) in 0..255; N is height * width.
        widths: sa, sb, sg, see `ubertrain.ops.crf`.
        normalised: symmetrically, or not at all.
    """
    rows, _, height, width = images.shape
    appearance_xy, appearance_rgb, smoothness_xy = widths
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack([x, y], dim=-1).flatten(0, 1).to(images).expand(rows, -1, -1)
    colours = images.flatten(2).mT
    features = (torch.cat([positions / appearance_xy, colours / appearance_rgb], dim=-1), positions / smoothness_xy)
    kernels = torch.stack([gaussian(feature) for feature in features])
    return symmetric(kernels) if normalised else kernels


def exact_mean_field(
    logits: Tensor, kernels: Tensor, weights: Tensor, mu: Tensor | None = None, iterations: int = 10
) -> Tensor:
    """Log-marginals (rows, classes, height, width), by plain differentiable operations in O(N^2) memory.

    Args:
        logits: (rows, classes, height, width).
        kernels: (2, rows, N, N) from `exact_kernels`.
        weights: (2,) w1, w2.
        mu: (classes, classes) label compatibility; Potts, [l != l'], if None.
    """
    classes = logits.shape[1]
    mu = 1 - torch.eye(classes).to(logits) if mu is None else mu
    unary = logits.flatten(2).mT.log_softmax(dim=-1)
    kernel = (weights[:, None, None, None] * kernels).sum(dim=0)
    scores = unary
    for _ in range(iterations):
        scores = unary - kernel @ scores.softmax(dim=-1) @ mu.T
    return scores.log_softmax(dim=-1).mT.reshape(logits.shape)
