"""A fully connected conditional random field over pixels, solved by mean field, as post-processing and as a trained layer.

Krähenbühl and Koltun (2011), as DeepLab uses it. The energy of a labelling x of an image with positions p and colours I is

    E(x) = sum_i -log P(x_i) + sum_{i<j} mu(x_i, x_j) k(i, j)
    k(i, j) = w1 exp(-|p_i - p_j|^2 / 2 sa^2 - |I_i - I_j|^2 / 2 sb^2) + w2 exp(-|p_i - p_j|^2 / 2 sg^2)

and one iteration of mean field, from Q = P on, is

    Q_i(l) <- softmax_l( log P_i(l) - sum_l' mu(l, l') sum_j k(i, j) Q_j(l') )

As in the authors' program, and unlike in their equation, the sum over j includes i itself, and both kernels are normalised.
The first kernel is filtered on a permutohedral lattice, the second exactly, by two passes of a narrow Gaussian, or on a
lattice as well if it is wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ubertrain.errors import ConfigError, DataError, NonFiniteError
from ubertrain.ops.bags import Bags
from ubertrain.ops.permutohedral import Lattice, lattice

Normalisation = Literal["symmetric", "none"]
Compatibility = Literal["potts", "learned"]

_WIDEST_PASS = 4.0
"""Standard deviation in pixels from which on a Gaussian of positions is filtered on a lattice."""
_REACH = 4.0
"""Standard deviations at which a narrow Gaussian is cut."""


class DenseCRF(nn.Module):
    """Mean field in a fully connected CRF: sharpens scores along the edges of their images.

        crf = DenseCRF(classes=21)
        labels = crf(logits, images).argmax(dim=1)

    Differentiable in the logits and in its parameters, not in the images. For the backward pass the marginals of about
    sqrt(iterations) iterations are kept, and the others computed again; without gradients, memory does not grow with the
    iterations. Kernels are built anew in every call.

    Args:
        classes: labels per pixel.
        iterations: of mean field.
        appearance_weight, appearance_xy, appearance_rgb: w1, sa in pixels, sb in levels of 0..255.
        smoothness_weight, smoothness_xy: w2, sg in pixels. All defaults are those commonly used for DeepLab on VOC.
        compatibility: "potts" is mu(l, l') = [l != l']; "learned" begins there and is a parameter.
        normalisation: "symmetric" divides each k_m(i, j) by sqrt(sum_j' k_m(i, j')) sqrt(sum_i' k_m(i', j)), so that a
            message is a mean whatever the kernel's width and the picture's contrast; "none" does not, and wants weights
            smaller by the number of pixels that a kernel covers.

    Attributes:
        weights: parameter (2,): w1, w2.
        compatibility: parameter (classes, classes), mu(l, l'); None for "potts".
    """

    def __init__(
        self,
        classes: int,
        *,
        iterations: int = 10,
        appearance_weight: float = 4.0,
        appearance_xy: float = 67.0,
        appearance_rgb: float = 3.0,
        smoothness_weight: float = 3.0,
        smoothness_xy: float = 1.0,
        compatibility: Compatibility = "potts",
        normalisation: Normalisation = "symmetric",
    ) -> None:
        super().__init__()
        if classes < 1 or iterations < 0:
            raise ConfigError(f"a CRF needs classes >= 1 and iterations >= 0, got {classes} and {iterations}")
        self.widths = (appearance_xy, appearance_rgb, smoothness_xy)
        if not all(0 < width < math.inf for width in self.widths):
            raise ConfigError(f"appearance_xy, appearance_rgb and smoothness_xy must be positive, got {self.widths}")
        if compatibility not in get_args(Compatibility):
            raise ConfigError(f"compatibility is one of {get_args(Compatibility)}, got {compatibility!r}")
        if normalisation not in get_args(Normalisation):
            raise ConfigError(f"normalisation is one of {get_args(Normalisation)}, got {normalisation!r}")
        self.classes = classes
        self.iterations = iterations
        self.normalisation = normalisation
        self.weights = nn.Parameter(torch.tensor([appearance_weight, smoothness_weight]))
        potts = 1 - torch.eye(classes)
        self.compatibility = nn.Parameter(potts) if compatibility == "learned" else None

    def forward(self, logits: Tensor, images: Tensor) -> Tensor:
        """Log-marginals (rows, classes, height, width), at least float32.

        Args:
            logits: (rows, classes, height, width), log P up to a constant per pixel; any float dtype.
            images: (rows, 3, height, width) in 0..255, on the logits' device.

        Raises:
            DataError: sizes that do not match, or images out of their range.
            NonFiniteError: logits that are nan or infinite.
        """
        self._check_shapes(logits, images)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        mu = None if self.compatibility is None else self.compatibility.to(dtype)
        given = (logits, self.weights, *([] if mu is None else [mu]))
        trained = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
        every = math.isqrt(max(self.iterations - 1, 0)) + 1 if trained else 0
        result, _ = _mean_field(
            logits.to(dtype), images, self.weights.to(dtype), mu, self.widths, self.iterations,
            self.normalisation == "symmetric", every,
        )  # fmt: skip
        return result

    def _check_shapes(self, logits: Tensor, images: Tensor) -> None:
        if logits.ndim != 4 or logits.shape[1] != self.classes:
            raise DataError(f"logits of a CRF must be (rows, {self.classes}, height, width), got {tuple(logits.shape)}")
        rows, _, *size = logits.shape
        if images.shape != (rows, 3, *size):
            raise DataError(
                f"a CRF needs its images in the size of the logits: expected {(rows, 3, *size)}, got {tuple(images.shape)}; "
                "resize the logits first"
            )

    def extra_repr(self) -> str:
        return f"{self.classes}, iterations={self.iterations}, widths={self.widths}, normalisation={self.normalisation!r}"


class Band:
    """A Gaussian of pixel positions of std `width`, cut at 4 std: along the columns, then along the rows.

    Args:
        shape: (rows, height, width).
    """

    def __init__(self, shape: Sequence[int], width: float, symmetric: bool, like: Tensor) -> None:
        self.rows, self.height, self.width = shape
        self.down = _band(self.rows, self.height, width, symmetric, like)
        self.across = _band(self.rows * self.height, self.width, width, symmetric, like)

    def filter(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """`K @ values` for `values` (rows * height * width, channels); `transposed` changes nothing, K is symmetric."""
        channels = values.shape[1]
        values = self.down @ values.view(self.rows * self.height, self.width * channels)
        return self.across @ values.view(-1, channels)


def _band(rows: int, length: int, width: float, symmetric: bool, like: Tensor) -> Bags:
    """`rows` blocks of a (length, length) Gaussian."""
    reach = min(math.ceil(_REACH * width), length - 1)
    offsets = torch.arange(-reach, reach + 1, device=like.device)
    at = torch.arange(length, device=like.device)[:, None] + offsets
    there = (at >= 0) & (at < length)
    gauss = (-0.5 * (offsets / width).to(like.dtype).square()).exp().expand_as(at) * there
    if symmetric:
        scale = gauss.sum(dim=1).rsqrt()
        gauss = gauss * scale[:, None] * scale[at.clamp(0, length - 1)]
    shift = torch.arange(rows, device=like.device)[:, None, None] * length
    return Bags.of_candidates((at + shift).flatten(0, 1), gauss.repeat(rows, 1), there.repeat(rows, 1))


def _positions(height: int, width: int, like: Tensor) -> Tensor:
    """(height * width, 2): x, y."""
    y, x = torch.meshgrid(
        *(torch.arange(side, dtype=like.dtype, device=like.device) for side in (height, width)), indexing="ij"
    )
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def _normalised(kernel: Lattice, points: int, like: Tensor) -> Lattice:
    return kernel.scaled(kernel.filter(like.new_ones(points, 1)).squeeze(1).rsqrt())


def kernels(images: Tensor, widths: Sequence[float], symmetric: bool, like: Tensor) -> tuple[Lattice, Lattice | Band]:
    """The appearance and the smoothness kernel of `images` (rows, 3, height, width); (sa, sb, sg) are the `widths`."""
    rows, _, height, width = images.shape
    appearance_xy, appearance_rgb, smoothness_xy = widths
    points = rows * height * width
    positions = _positions(height, width, like).expand(rows, -1, -1)
    colours = images.to(like.dtype).flatten(2).mT
    appearance = lattice(torch.cat([positions / appearance_xy, colours / appearance_rgb], dim=-1))
    if symmetric:
        appearance = _normalised(appearance, points, like)
    if smoothness_xy < _WIDEST_PASS:
        return appearance, Band((rows, height, width), smoothness_xy, symmetric, like)
    smoothness = lattice(positions / smoothness_xy)
    return appearance, _normalised(smoothness, points, like) if symmetric else smoothness


class _Field:
    """The mean field of one batch on values (pixels, classes): what an iteration and its gradient are.

    `pull` is -mu, or None for Potts: there -mu differs from the identity by a constant per pixel, which softmax ignores.
    """

    def __init__(self, logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None, widths: Sequence[float],
                 symmetric: bool) -> None:  # fmt: skip
        _check_values(logits, images)
        self.unary = _by_pixel(logits)
        self.kernels = kernels(images, widths, symmetric, logits)
        self.weights = weights.tolist()
        self.pull = None if mu is None else -mu

    def scores(self, marginals: Tensor) -> Tensor:
        """The logits (pixels, classes) of the marginals after these."""
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
        """From the gradient of `scores(marginals)`: those of the marginals, the weights, and the pull.

        The filters move to the other side of every scalar product, <G, K Q> = <K^T G, Q>, so no message is needed again.
        """
        total = torch.zeros_like(gradient)
        weight_gradients = []
        for kernel, weight in zip(self.kernels, self.weights, strict=True):
            filtered = kernel.filter(gradient, transposed=True)
            total.add_(filtered, alpha=weight)
            pulled = filtered if self.pull is None else filtered @ self.pull
            weight_gradients.append(torch.linalg.vecdot(pulled.flatten(), marginals.flatten()))
        if self.pull is None:
            return total, torch.stack(weight_gradients), None
        return total @ self.pull, torch.stack(weight_gradients), total.T @ marginals


def _by_pixel(maps: Tensor) -> Tensor:
    """(rows, classes, height, width) -> (pixels, classes), contiguous."""
    return maps.permute(0, 2, 3, 1).contiguous().view(-1, maps.shape[1])


def _as_maps(values: Tensor, like: Tensor) -> Tensor:
    rows, classes, height, width = like.shape
    return values.view(rows, height, width, classes).permute(0, 3, 1, 2).contiguous()


def _check_values(logits: Tensor, images: Tensor) -> None:
    if not logits.numel():
        return
    bad = ~torch.stack(torch.aminmax(logits.flatten(1), dim=1)).isfinite().all(dim=0)
    if bad.any():
        raise NonFiniteError(
            f"logits of a CRF must be finite; nan or infinite ones are in rows {bad.nonzero().flatten().tolist()}"
        )
    low, high = (float(end) for end in torch.aminmax(images))
    if not (low >= 0 and high <= 255):
        raise DataError(
            f"images of a CRF must be in 0..255, got {low:g}..{high:g}; undo the trunk's normalisation before the CRF"
        )


def _softmax_gradient(gradient: Tensor, marginals: Tensor) -> Tensor:
    """Of `softmax(x)`, with respect to x."""
    gradient = gradient * marginals
    return gradient.sub_(marginals * gradient.sum(dim=1, keepdim=True))


@torch.library.custom_op("ubertrain::mean_field", mutates_args=())
def _mean_field(
    logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None, widths: Sequence[float], iterations: int,
    symmetric: bool, every: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Log-marginals (rows, classes, height, width), and the marginals of every `every`-th iteration (k, pixels, classes).

    An operator of its own, since the number of lattice points depends on the picture: fake tensors pass through it.
    """
    kept = logits.new_empty(_kept_shape(logits, iterations, every))
    if not logits.numel():
        return torch.empty_like(logits, memory_format=torch.contiguous_format), kept
    with torch.autocast(logits.device.type, enabled=False):
        field = _Field(logits, images, weights, mu, widths, symmetric)
        scores = field.unary
        for step in range(iterations):
            marginals = scores.softmax(dim=1)
            if every and step and step % every == 0:
                kept[step // every - 1] = marginals
            scores = field.scores(marginals)
        return _as_maps(scores.log_softmax(dim=1), logits), kept


def _kept_shape(logits: Tensor, iterations: int, every: int) -> tuple[int, int, int]:
    rows, classes, height, width = logits.shape
    return ((iterations - 1) // every if every and iterations else 0, rows * height * width, classes)


@_mean_field.register_fake
def _(
    logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None, widths: Sequence[float], iterations: int,
    symmetric: bool, every: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return (
        torch.empty_like(logits, memory_format=torch.contiguous_format),
        logits.new_empty(_kept_shape(logits, iterations, every)),
    )


@torch.library.custom_op("ubertrain::mean_field_backward", mutates_args=())
def _mean_field_backward(
    gradient: Tensor, result: Tensor, kept: Tensor, logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None,
    widths: Sequence[float], iterations: int, symmetric: bool, every: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of logits, weights and mu (empty without one), from that of the log-marginals `result`."""
    mu_gradient = weights.new_zeros(0) if mu is None else torch.zeros_like(mu)
    weight_gradient = torch.zeros_like(weights)
    if not logits.numel():
        return torch.empty_like(logits), weight_gradient, mu_gradient
    with torch.autocast(logits.device.type, enabled=False):
        field = _Field(logits, images, weights, mu, widths, symmetric)
        here = _by_pixel(gradient)
        here = here - _by_pixel(result).exp() * here.sum(dim=1, keepdim=True)
        unary_gradient = here.clone()
        for first in reversed(range(0, iterations, every)):
            start = kept[first // every - 1] if first else field.unary.softmax(dim=1)
            for marginals in reversed(field.run(start, min(every, iterations - first) - 1)):
                at_marginals, of_weights, of_pull = field.backward(here, marginals)
                weight_gradient += of_weights
                if of_pull is not None:
                    mu_gradient -= of_pull
                here = _softmax_gradient(at_marginals, marginals)
                unary_gradient += here
        return _as_maps(unary_gradient, logits), weight_gradient, mu_gradient


@_mean_field_backward.register_fake
def _(
    gradient: Tensor, result: Tensor, kept: Tensor, logits: Tensor, images: Tensor, weights: Tensor, mu: Tensor | None,
    widths: Sequence[float], iterations: int, symmetric: bool, every: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        torch.empty_like(logits, memory_format=torch.contiguous_format),
        torch.empty_like(weights),
        weights.new_empty(0) if mu is None else torch.empty_like(mu),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, images, weights, mu, *ctx.settings = inputs
    result, kept = output
    ctx.mark_non_differentiable(kept)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(result, kept, logits, images, weights, mu)


def _backward(ctx: Any, gradient: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    result, kept, logits, images, weights, mu = ctx.saved_tensors
    none = (None,) * len(ctx.settings)
    if gradient is None:
        return (None, None, None, None, *none)
    of_logits, of_weights, of_mu = _mean_field_backward(gradient, result, kept, logits, images, weights, mu, *ctx.settings)
    return (of_logits, None, of_weights, None if mu is None else of_mu, *none)


_mean_field.register_autograd(_backward, setup_context=_setup)
