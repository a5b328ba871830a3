"""Heads for dense tasks by name: what stands under `head:` in YAML."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.ops.grid import OnGrid
from ubertrain.ops.pixels import full_precision
from ubertrain.registry import Registry

Choice = str | dict[str, Any]
"""The name of a head, or a mapping with its name as `type` and its keys."""


class HeadRecipe(ABC):
    """A kind of head with its options: a dataclass whose fields are the keys it accepts in YAML."""

    taps: ClassVar[tuple[str, ...]] = ("res2", "res3", "res4", "res5")
    """The trunk levels that its head reads if the configuration names none."""

    def grid_stride(self, levels: Sequence[Level]) -> int:
        """Pixels per cell of the grid on which its scores stand, 1 if they are of pixels; usually the finest level's."""
        return min(level.stride for level in levels)

    @abstractmethod
    def make(self, levels: Sequence[Level], channels: int) -> nn.Module:
        """A new head: levels -> scores.

        In training mode these are an `OnGrid` or, at the resolution of the input, a tensor (rows, channels, height, width); in
        eval mode a tensor. They have at least 32 bits. At sides that the stride does not divide they cover slightly more or
        less than the image, beginning at its corner.

        Raises:
            ConfigError: levels that this head cannot read.
        """


HEADS: "Registry[HeadRecipe]" = Registry(
    kind="head",
    builtin={
        "fusion": "ubertrain.tasks.fusion:Fused",
        "fcn32": "ubertrain.tasks.fcn:FCN32",
        "fcn16": "ubertrain.tasks.fcn:FCN16",
        "fcn8": "ubertrain.tasks.fcn:FCN8",
        "largefov": "ubertrain.tasks.deeplab:LargeFOV",
        "aspp_sum": "ubertrain.tasks.deeplab:ASPPSum",
        "aspp": "ubertrain.tasks.deeplab:ASPP",
        "ubernet": "ubertrain.tasks.ubernet_head:UberNet",
    },
    group="ubertrain.heads",
    base="ubertrain.tasks.heads:HeadRecipe",
)
"""Every head by name; others go by their import path "package.module:Class"."""


def recipe_of(choice: Choice, where: str, **keywords: Any) -> HeadRecipe:
    """The recipe that `choice` names.

    Args:
        choice: see `Choice`.
        where: what asks for it, for messages.
        keywords: more keys, which `choice` must not have as well.

    Raises:
        ConfigError: no type, an unknown name, key or value, or a key given twice.
    """
    keys = dict(choice) if isinstance(choice, Mapping) else {"type": choice}
    name = keys.pop("type", None)
    if not isinstance(name, str):
        known = ", ".join(HEADS.names())
        raise ConfigError(f"{where}: head needs a name, as in head: NAME or head: {{type: NAME, ...}}; known: {known}")
    if twice := sorted(keys.keys() & keywords.keys()):
        raise ConfigError(f"{where}: {twice[0]!r} is given twice, beside head and under it; drop one")
    return HEADS.make(name, where, **keys, **keywords)


class ToPixels(nn.Module):
    """The last part of a head: scores on a grid, in eval mode enlarged to pixels.

    Args:
        stride: pixels per cell.
        corners: see `OnGrid`.

    Attributes:
        keeps_grid: whether it leaves them there, in eval mode too; see `keep_grid`.
    """

    def __init__(self, stride: int, *, corners: bool = False) -> None:
        super().__init__()
        self.stride, self.corners, self.keeps_grid = stride, corners, False

    def forward(self, scores: Tensor) -> OnGrid | Tensor:
        """(rows, channels, height, width) -> `OnGrid` in training mode, else (rows, channels, pixels, pixels)."""
        grid = OnGrid(full_precision(scores), self.stride, self.corners)
        return grid if self.training or self.keeps_grid else grid.pixels()


@runtime_checkable
class KeepsGrid(Protocol):
    """A part of a head that can leave scores on their grid."""

    keeps_grid: bool


def keep_grid(head: nn.Module) -> None:
    """Have a head give scores on its grid in eval mode, too, for a layer that follows; one that has none stays as it is."""
    for part in head.modules():
        if isinstance(part, KeepsGrid):
            part.keeps_grid = True


class OnlyLevel(nn.Module):
    """The first part of a head that reads one level."""

    def forward(self, levels: list[Tensor]) -> Tensor:
        """The level itself."""
        (level,) = levels
        return level


def only(levels: Sequence[Level], head: str) -> Level:
    """The one level of a head that reads one.

    Raises:
        ConfigError: there are more or less.
    """
    if len(levels) != 1:
        raise ConfigError(f"head {head!r} reads one level; given are {len(levels)}: give one tap, such as taps: [res5]")
    return levels[0]


def score_layer(channels: int, classes: int, *, std: float = 0.0, kernel: int = 1, rate: int = 1) -> nn.Conv2d:
    """A convolution that scores classes: weights normal with `std`, zero biases, dilated by `rate`, sides kept."""
    layer = nn.Conv2d(channels, classes, kernel, padding=kernel // 2 * rate, dilation=rate)
    nn.init.normal_(layer.weight, std=std)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def ratio(coarse: int, fine: int, head: str) -> int:
    """How many cells of stride `fine` there are in one of stride `coarse`, along a side.

    Raises:
        ConfigError: no whole number.
    """
    if coarse % fine:
        raise ConfigError(f"head {head!r}: strides must divide each other; {fine} does not divide {coarse}: choose other taps")
    return coarse // fine
