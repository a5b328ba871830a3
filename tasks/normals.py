"""Surface normals: the direction that the surface under every pixel faces."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ubertrain.annotation.normals import Normals as NormalsKind
from ubertrain.engine.level import Level
from ubertrain.metrics.angular_error import AngularError
from ubertrain.ops.pixels import full_precision, to_size, valid_mean
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.fusion import Fusion, FusionHead

_FACING = (0.0, 0.0, -1.0)
_SHORTEST = 1e-6


def unit(scores: Tensor) -> Tensor:
    """Vectors (rows, 3, height, width) with length 1; one without a direction faces the viewer."""
    square = (scores * scores).sum(dim=1, keepdim=True)  # several times as fast as the norm along this dimension
    facing = scores.new_tensor(_FACING).view(1, 3, 1, 1)
    return torch.where(square < _SHORTEST**2, facing, scores / square.clamp(min=_SHORTEST**2).sqrt())


@register_task("normals")
class Normals(Task):
    """Unit normals in the camera's axes: x right, y down, z forward; a new head says that everything faces the viewer.

    Args:
        taps: trunk levels to read.
        width: features per pixel in the head; 0 for UberNet's head, which scores the levels directly.
        fusion: "concat" or "sum".
        loss: "l1" is the mean absolute difference of the components of unit vectors (as in ASTMT, Maninis et al. 2019);
            "cosine" is 1 - the cosine of the angle between them, which cares less about small angles.
    """

    annotation = NormalsKind

    def __init__(self, *, taps: Sequence[str] = ("res2", "res3", "res4", "res5"), width: int = 64, fusion: Fusion = "concat",
                 loss: Literal["l1", "cosine"] = "l1") -> None:  # fmt: skip
        self.taps, self.width, self.fusion, self.cosine = tuple(taps), width, fusion, loss == "cosine"

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, 3, height, width) unit vectors; in training mode before they are made unit."""
        return FusionHead(levels, 3, width=self.width, fusion=self.fusion, start=_FACING, answer=unit)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(rows,): the mean difference over pixels with a normal; vectors of any length for unit vectors, 0 0 0 = unknown."""
        normals = unit(full_precision(to_size(prediction, target.shape[-2:])))
        apart = 1 - (normals * target).sum(dim=1) if self.cosine else (normals - target).abs().mean(dim=1)
        return valid_mean(apart, (target != 0).any(dim=1))

    def metric(self) -> AngularError:
        """The angle between predicted and true normal."""
        return AngularError()

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """Red faces right, green faces up, blue faces the viewer."""
        return NormalsKind.draw(image, to_size(prediction, image.shape[:2]).cpu())
