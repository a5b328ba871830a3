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
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ubertrain.errors import ConfigError, DataError
from ubertrain.ops.mean_field import mean_field

Normalisation = Literal["symmetric", "none"]
Compatibility = Literal["potts", "learned"]


class DenseCRF(nn.Module):
    """Mean field in a fully connected CRF: sharpens scores along the edges of their images.

        crf = DenseCRF(classes=21).requires_grad_(False)
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
        if not (math.isfinite(appearance_weight) and math.isfinite(smoothness_weight)):
            raise ConfigError(f"weights of a CRF must be finite, got {appearance_weight} and {smoothness_weight}")
        if compatibility not in get_args(Compatibility):
            raise ConfigError(f"compatibility is one of {get_args(Compatibility)}, got {compatibility!r}")
        if normalisation not in get_args(Normalisation):
            raise ConfigError(f"normalisation is one of {get_args(Normalisation)}, got {normalisation!r}")
        self.classes = classes
        self.iterations = iterations
        self.normalisation = normalisation
        self.weights = nn.Parameter(torch.tensor([appearance_weight, smoothness_weight], dtype=torch.get_default_dtype()))
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
        result, _ = mean_field(
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
