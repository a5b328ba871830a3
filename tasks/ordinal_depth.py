"""Depth as a question asked many times: is it farther than this? (DORN: Fu et al. 2018)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.errors import ConfigError


@dataclass(frozen=True)
class OrdinalDepth:
    """Intervals of depth that grow with it (spacing-increasing discretisation, equation 1 of the paper).

    Between `near` and `far` lie `bins` intervals of equal steps in log depth. The head answers one logit for each border of two
    of them: that the depth lies beyond it. (The paper's two-way softmax per border is this logit's sigmoid; its shift xi only
    serves a `near` of 0, which is refused.)

    Attributes:
        bins: how many intervals; 80 in the paper for KITTI, 68 for NYUv2.
        near: metres, where the first begins; what is nearer counts to it.
        far: metres, where the last one ends; what is farther counts to it.

    Raises:
        ConfigError: fewer than two intervals, or none between `near` and `far`.
    """

    bins: int
    near: float
    far: float

    def __post_init__(self) -> None:
        if self.bins < 2 or not 0 < self.near < self.far < math.inf:
            raise ConfigError(
                "ordinal depth needs at least two bins between a nearest depth above 0 and a farthest, in metres; given are "
                f"{self.bins} between {self.near} and {self.far}"
            )

    @property
    def channels(self) -> int:
        """How many logits: the borders between intervals."""
        return self.bins - 1

    @property
    def step(self) -> float:
        """The logarithm of far over near end of each interval."""
        return math.log(self.far / self.near) / self.bins

    def start(self, metres: float) -> list[float]:
        """Logits of a head that answers about `metres`, surer of borders that are farther away."""
        place = math.log(metres / self.near) / self.step
        return [min(max(place - border, -4.0), 4.0) for border in range(1, self.bins)]

    def surprise(self, logits: Tensor, depth: Tensor) -> Tensor:
        """-ln of the probability given to the right answer, mean over the borders, (rows, height, width) nats.

        The paper's equation 3, divided by the number of borders so that it weighs as other losses do.

        Args:
            logits: (rows, channels, height, width).
            depth: (rows, height, width) metres, above 0.
        """
        interval = ((depth / self.near).log() / self.step).floor()  # borders 1, 2, ... up to this one are passed
        border = torch.arange(1, self.bins, device=logits.device).view(-1, 1, 1)
        passed = interval[:, None] >= border
        return F.softplus(torch.where(passed, -logits, logits)).mean(dim=1)

    def decode(self, logits: Tensor) -> Tensor:
        """Depth (rows, height, width) in metres: the middle of the interval behind as many borders as are rather passed."""
        interval = (logits > 0).sum(dim=1)
        begin = self.near * (interval * self.step).exp()
        return begin * (1 + math.exp(self.step)) / 2
