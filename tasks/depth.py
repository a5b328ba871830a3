"""Depth from one image: the distance of every pixel along the optical axis."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ubertrain.annotation.depth import Depth as DepthKind
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.metrics.depth_errors import DepthErrors
from ubertrain.ops.pixels import full_precision, to_size, valid_mean
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.fusion import Fusion, FusionHead

_LOG_RANGE = 7.0
"""Answers lie between e^-7 (1 mm) and e^7 (1 km) metres, so that an untrained head cannot overflow."""


def metres(scores: Tensor) -> Tensor:
    """Log depth (rows, 1, height, width) as depth (rows, height, width)."""
    return scores[:, 0].clamp(-_LOG_RANGE, _LOG_RANGE).exp()


@register_task("depth")
class Depth(Task):
    """Depth in metres. The head works in log depth and answers its exponential, so every answer is positive.

    Args:
        taps: trunk levels to read.
        width: features per pixel in the head; 0 for UberNet's head, which scores the levels directly.
        fusion: "concat" or "sum".
        loss: "log_l1" is mean |ln p - ln t|, the relative error to first order, which weighs near and far alike; "l1" is mean
            |p - t| in metres, which is ruled by what is far away.
        start: the depth in metres that a new head answers; close to the middle of the scenes at hand is best.
    """

    annotation = DepthKind

    def __init__(self, *, taps: Sequence[str] = ("res2", "res3", "res4", "res5"), width: int = 64, fusion: Fusion = "concat",
                 loss: Literal["log_l1", "l1"] = "log_l1", start: float = 2.0) -> None:  # fmt: skip
        if not 0 < start < math.exp(_LOG_RANGE):
            raise ConfigError(f"depth: start is a depth in metres between 0 and {math.exp(_LOG_RANGE):.0f}; given is {start}")
        self.taps, self.width, self.fusion = tuple(taps), width, fusion
        self.in_metres, self.start = loss == "l1", start

    def make_head(self, levels: list[Level]) -> nn.Module:
        """Levels -> (rows, height, width) metres; in training mode (rows, 1, height, width) log metres."""
        start = [math.log(self.start)]
        return FusionHead(levels, 1, width=self.width, fusion=self.fusion, start=start, answer=metres)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(rows,): the mean difference over pixels with a reading, of log metres (rows, 1, ...) from metres (rows, ...)."""
        scores = full_precision(to_size(prediction, target.shape[-2:]))
        valid = target > 0
        if self.in_metres:
            return valid_mean((metres(scores) - target).abs(), valid)
        return valid_mean((scores[:, 0] - torch.where(valid, target, 1.0).log()).abs(), valid)

    def metric(self) -> DepthErrors:
        """Relative and absolute errors."""
        return DepthErrors()

    def draw(self, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        """Near is red, far is blue."""
        return DepthKind.draw(image, to_size(prediction, image.shape[:2]).cpu())
