"""Surface normals: the direction that the surface under every pixel faces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ubertrain.annotation.normals import Normals as NormalsKind
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.metrics.angular_error import AngularError
from ubertrain.ops.codewords import even_codewords, read_codewords
from ubertrain.ops.pixels import full_precision, to_size, valid_mean
from ubertrain.ops.triangular_code import TriangularCode
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.coded_normals import CodedNormalsHead, codeword_loss
from ubertrain.tasks.fusion import Fusion, FusionHead

Loss = Literal["l1", "cosine", "soft", "hard"]

_FACING = (0.0, 0.0, -1.0)
_SHORTEST = 1e-6
_LOSSES: dict[str, tuple[Loss, ...]] = {"direct": ("l1", "cosine"), "triangular": ("soft", "hard")}
"""Coding -> its losses, the default first."""


def unit(scores: Tensor) -> Tensor:
    """Vectors (rows, 3, height, width) with length 1; one without a direction faces the viewer."""
    square = (scores * scores).sum(dim=1, keepdim=True)  # several times as fast as the norm along this dimension
    facing = scores.new_tensor(_FACING).view(1, 3, 1, 1)
    return torch.where(square < _SHORTEST**2, facing, scores / square.clamp(min=_SHORTEST**2).sqrt())


@register_task("normals")
class Normals(Task):
    """Unit normals in the camera's axes: x right, y down, z forward; a new head says that everything faces the viewer.

    With `coding: direct` the head answers the vector. With `coding: triangular` (Wang, Fouhey and Gupta 2015) it answers the
    probability of each of a few codewords, and the triangle of codewords with most of it is decoded; needs the extra `mat`.

    Args:
        taps: trunk levels to read.
        width: features per pixel in the head; 0 for UberNet's head, which scores the levels directly.
        fusion: "concat" or "sum".
        loss: of the direct coding: "l1" (default) is the mean absolute difference of the components of unit vectors (as in
            ASTMT, Maninis et al. 2019); "cosine" is 1 - the cosine of the angle between them, which cares less about small
            angles. Of the triangular coding: "soft" (default) is the divergence from the three weights of the truth, "hard"
            the cross-entropy of the codeword with the largest weight.
        coding: "direct" or "triangular".
        codewords: how many, spread evenly: 20 and 40 in the paper.
        codebook: a .npy file of codewords in place of those, such as `ubertrain codebook` makes from a training set; it says
            how many there are.
    """

    annotation = NormalsKind

    def __init__(self, *, taps: Sequence[str] = ("res2", "res3", "res4", "res5"), width: int = 64, fusion: Fusion = "concat",
                 loss: Loss | None = None, coding: Literal["direct", "triangular"] = "direct", codewords: int = 40,
                 codebook: str | None = None) -> None:  # fmt: skip
        losses = _LOSSES[coding]
        if loss is not None and loss not in losses:
            raise ConfigError(f"normals: loss {loss!r} does not go with coding: {coding}; it has {' and '.join(losses)}")
        if coding == "direct" and codebook is not None:
            raise ConfigError("normals: a codebook is for coding: triangular")
        self.taps, self.width, self.fusion, self.chosen_loss = tuple(taps), width, fusion, loss or losses[0]
        self.code: TriangularCode | None = None
        if coding == "triangular":
            words = even_codewords(codewords) if codebook is None else read_codewords(Path(codebook))
            self.code = TriangularCode(words)

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, 3, height, width) unit vectors.

        In training mode before they are made unit, or logits of the codewords.
        """
        if self.code is not None:
            return CodedNormalsHead(levels, self.code, width=self.width, fusion=self.fusion)
        return FusionHead(levels, 3, width=self.width, fusion=self.fusion, start=_FACING, answer=unit)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(rows,): the mean over pixels with a normal; 0 0 0 = unknown.

        Args:
            prediction: (rows, 3, height, width) vectors of any length, or (rows, codewords, height, width) logits.
            target: (rows, 3, height, width) unit vectors.
        """
        scores = full_precision(to_size(prediction, target.shape[-2:]))
        known = (target != 0).any(dim=1)
        if self.code is not None:
            return valid_mean(codeword_loss(self.code, scores, target, hard=self.chosen_loss == "hard"), known)
        normals = unit(scores)
        cosine = self.chosen_loss == "cosine"
        return valid_mean(1 - (normals * target).sum(dim=1) if cosine else (normals - target).abs().mean(dim=1), known)

    def metric(self) -> AngularError:
        """The angle between predicted and true normal."""
        return AngularError()

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """Red faces right, green faces up, blue faces the viewer."""
        return NormalsKind.draw(image, to_size(prediction, image.shape[:2]).cpu())
