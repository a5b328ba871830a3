"""Mean field in a fully connected CRF, forward and backward, as operators of torch that fake tensors pass through.

A lattice has as many points as the picture demands, so its tensors have no shape before the pixels are known. Therefore the
whole inference is one operator. It builds its kernels, and gives them back; the backward pass builds them again.

Meters of live tensors do not see into an operator, so each call first declares what it will take, see `declare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ubertrain.errors import DataError, NonFiniteError
from ubertrain.ops.crf_kernels import entries, kernels

_BUILDING = 400
"""Bytes per pixel while a lattice is built, at most, if it has a point per pixel."""
FORWARD_MAPS = 5
"""Tensors of the size of the logits that the forward pass holds at a time, without what it keeps for the backward pass."""
BACKWARD_MAPS = 8
"""Likewise for the backward pass, without the marginals that it computes again."""


class Field:
    """The mean field of one batch on values (pixels, classes): what an iteration and its gradient are.

    Args:
        logits: (rows, classes, height, width) float32 or float64.
        images: (rows, 3, height, width) in 0..255.
        weights: (2,) of the kernels.
        mu: (classes, classes) label compatibility, or None for Potts.
        widths, symmetric: see `kernels`.
    """

    def __init__(self, logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None, widths: Sequence[float],
                 symmetric: bool) -> None:  # fmt: skip
        _check(logits, images)
        self.kernels = kernels(images, widths, symmetric, logits)
        self.unary = _by_pixel(logits)
        self.weights = weights.tolist()
        # Potts is 1 - identity. The 1 adds a constant per pixel, which softmax ignores, and the identity needs no product.
        self.pull = None if mu is None else -mu

    def scores(self, marginals: Tensor) -> Tensor:
        """The logits of the marginals after these."""
        message = self.unary.clone() if self.pull is None else torch.zeros_like(self.unary)
        for kernel, weight in zip(self.kernels, self.weights, strict=True):
            if weight:
                message.add_(kernel.filter(marginals), alpha=weight)
        return message if self.pull is None else torch.addmm(self.unary, message, self.pull.T)

    def run(self, marginals: Tensor, count: int) -> list[Tensor]:
        """The given marginals and those of the `count` iterations after them."""
        every = [marginals]
        for _ in range(count):
            every.append(self.scores(every[-1]).softmax(dim=1))
        return every

    def backward(self, gradient: Tensor, marginals: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """From the gradient of `scores(marginals)`: those of the marginals, of the weights, and of mu if there is one.

        The filters move to the other side of every scalar product, <G, K Q> = <K^T G, Q>, so no message is needed again.
        """
        total = torch.zeros_like(gradient)
        of_weights = []
        for kernel, weight in zip(self.kernels, self.weights, strict=True):
            filtered = kernel.filter(gradient, transposed=True)
            total.add_(filtered, alpha=weight)
            pulled = filtered if self.pull is None else filtered @ self.pull
            of_weights.append(torch.dot(pulled.flatten(), marginals.flatten()))
        if self.pull is None:
            return total, torch.stack(of_weights), None
        return total @ self.pull, torch.stack(of_weights), -(total.T @ marginals)


def forward(
    logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None, widths: Sequence[float], iterations: int,
    symmetric: bool, every: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Iterations of mean field from the softmax of the logits on.

    Args:
        logits, images, weights, mu, widths, symmetric: see `Field`.
        iterations: how many.
        every: of how many iterations to keep the marginals of one; 0 for none.

    Returns:
        Log-marginals (rows, classes, height, width), and what was kept (k, pixels, classes).
    """
    kept = logits.new_empty(kept_shape(logits, iterations, every))
    if not logits.numel():
        return torch.empty_like(logits, memory_format=torch.contiguous_format), kept
    with torch.autocast(logits.device.type, enabled=False):
        field = Field(logits, images, weights, mu, widths, symmetric)
        scores = field.unary
        for step in range(iterations):
            marginals = scores.softmax(dim=1)
            del scores
            if every and step and step % every == 0:
                kept[step // every - 1] = marginals
            scores = field.scores(marginals)
            del marginals
        return _as_maps(scores.log_softmax(dim=1), logits), kept


def backward(
    gradient: Tensor, result: Tensor, kept: Tensor, logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None,
    widths: Sequence[float], iterations: int, symmetric: bool, every: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of logits, weights and mu (empty without one), from the `gradient` of log-marginals `result`.

    Marginals that were not kept are computed again, those between two kept ones at a time.
    """
    of_weights = torch.zeros_like(weights)
    of_mu = weights.new_zeros(0) if mu is None else torch.zeros_like(mu)
    if not logits.numel():
        return torch.empty_like(logits), of_weights, of_mu
    with torch.autocast(logits.device.type, enabled=False):
        field = Field(logits, images, weights, mu, widths, symmetric)
        here = _by_pixel(gradient)
        here = here - _by_pixel(result).exp_().mul_(here.sum(dim=1, keepdim=True))
        of_unary = here.clone()
        for first in reversed(range(0, iterations, every)):
            start = kept[first // every - 1] if first else field.unary.softmax(dim=1)
            stretch = field.run(start, min(every, iterations - first) - 1)
            while stretch:
                marginals = stretch.pop()
                of_marginals, more_weights, more_mu = field.backward(here, marginals)
                of_weights += more_weights
                if more_mu is not None:
                    of_mu += more_mu
                here = _through_softmax(of_marginals, marginals)
                of_unary += here
        return _as_maps(of_unary, logits), of_weights, of_mu


def _check(logits: Tensor, images: Tensor) -> None:
    low, high = torch.aminmax(logits)
    if not (low.isfinite() and high.isfinite()):
        bad = (~logits.isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
        raise NonFiniteError(f"logits of a CRF must be finite; nan or infinite ones are in rows {bad}")
    low, high = torch.aminmax(images)
    if not (low >= 0 and high <= 255):
        raise DataError(
            f"images of a CRF must be in 0..255, got {float(low):g}..{float(high):g}; "
            "undo the trunk's normalisation before the CRF"
        )


def _by_pixel(maps: Tensor) -> Tensor:
    """(rows, classes, height, width) -> (pixels, classes), a contiguous copy."""
    return maps.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).view(-1, maps.shape[1])


def _as_maps(values: Tensor, like: Tensor) -> Tensor:
    rows, classes, height, width = like.shape
    return values.view(rows, height, width, classes).permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)


def _through_softmax(gradient: Tensor, marginals: Tensor) -> Tensor:
    """The gradient of x, from that of `softmax(x)`, which is overwritten."""
    gradient *= marginals
    return gradient.sub_(marginals * gradient.sum(dim=1, keepdim=True))


def kept_shape(logits: Tensor, iterations: int, every: int) -> tuple[int, int, int]:
    """The shape of the marginals that are kept for the backward pass."""
    rows, classes, height, width = logits.shape
    return (max(iterations - 1, 0) // every if every else 0, rows * height * width, classes)


_forward = torch.library.custom_op("ubertrain::mean_field", forward, mutates_args=())
_backward = torch.library.custom_op("ubertrain::mean_field_backward", backward, mutates_args=())


@_forward.register_fake
def _(
    logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None, widths: Sequence[float], iterations: int,
    symmetric: bool, every: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    result = torch.empty_like(logits, memory_format=torch.contiguous_format)
    return result, logits.new_empty(kept_shape(logits, iterations, every))


@_backward.register_fake
def _(
    gradient: Tensor, result: Tensor, kept: Tensor, logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None,
    widths: Sequence[float], iterations: int, symmetric: bool, every: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    of_logits = torch.empty_like(logits, memory_format=torch.contiguous_format)
    return of_logits, torch.empty_like(weights), weights.new_empty(0) if mu is None else torch.empty_like(mu)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, images, weights, mu, *ctx.settings = inputs
    result, kept = output
    ctx.mark_non_differentiable(kept)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(result, kept, logits, images, weights, mu)


def _gradients(ctx: Any, gradient: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    settings = (None,) * len(ctx.settings)
    if gradient is None:
        return (None, None, None, None, *settings)
    result, kept, logits, images, weights, mu = ctx.saved_tensors
    widths, _, _, every = ctx.settings
    declare(logits, BACKWARD_MAPS + every, widths)
    of_logits, of_weights, of_mu = _backward(gradient, result, kept, logits, images, weights, mu, *ctx.settings)
    return (of_logits, None, of_weights, None if mu is None else of_mu, *settings)


_forward.register_autograd(_gradients, setup_context=_setup)


def mean_field(
    logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None, widths: Sequence[float], iterations: int,
    symmetric: bool, every: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `forward`, differentiable in logits, weights and mu; gradients need `every` > 0."""
    declare(logits, FORWARD_MAPS + kept_shape(logits, iterations, every)[0], widths)
    return _forward(logits, images, weights, mu, widths, iterations, symmetric, every)


def declare(logits: Tensor, maps: int, widths: Sequence[float]) -> None:
    """Make, and drop, a tensor as large as all that an operator is about to hold: so that meters of live tensors count it.

    Args:
        logits: (rows, classes, height, width).
        maps: how many tensors of the size of the logits.
        widths: see `kernels`. Their lattices count as if they had a point per pixel; those of pictures mostly have fewer.
    """
    rows, classes, height, width = logits.shape
    size = logits.element_size()
    per_pixel = max(_BUILDING, entries(widths) * (4 + size) + maps * classes * size)
    logits.new_empty(rows * height * width * per_pixel, dtype=torch.uint8)
