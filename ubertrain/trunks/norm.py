"""The normalisations a trunk can be built with."""

import math
from typing import Literal, Self

from torch import nn

from ubertrain.errors import ConfigError

NormKind = Literal["batch", "group", "frozen"]


class FrozenBatchNorm(nn.BatchNorm2d):
    """A batch norm that is one fixed affine map per channel: its statistics never move and it takes no gradient.

    Its names in a state are those of `nn.BatchNorm2d`. For batches too small for statistics, as in detection.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the model around is put into."""
        return super().train(False)


def make_norm(kind: NormKind, channels: int) -> nn.Module:
    """A new normalisation of `channels` channels; "group" has 32 groups (Wu and He 2018), or as many as divide evenly.

    Raises:
        ConfigError: `kind` is none of "batch", "group", "frozen".
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(32, channels), channels)
    if kind == "frozen":
        return FrozenBatchNorm(channels)
    raise ConfigError(f"norm: expected batch, group or frozen, not {kind!r}")
