"""A head whose scores go through a fully connected CRF, which looks at the image (DeepLab; CRF-RNN, Zheng et al. 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch.nn.functional as F
from pydantic import ConfigDict
from torch import Tensor, nn

from ubertrain.engine.level import IMAGE, Level
from ubertrain.errors import ConfigError, TaskError
from ubertrain.ops.crf import Compatibility, DenseCRF, Normalisation
from ubertrain.ops.grid import OnGrid
from ubertrain.ops.pixels import to_size
from ubertrain.tasks.heads import HeadRecipe, KeepsGrid, keep_grid


@dataclass(frozen=True, kw_only=True)
class CRF:
    """What stands under `crf:` in YAML.

    Attributes:
        mode: "inference" sharpens the answers of a head that is trained without it, and adds nothing to its state, so that it
            may be switched on when a run is evaluated; "train" makes it the head's last layer, whose weights learn.
        at: "pixels", or "grid" for the cells on which the head's scores stand, in much less memory and time; left out: "pixels"
            for inference, "grid" for training.
        iterations: of mean field.
        appearance_weight, appearance_xy, appearance_rgb: of the kernel of positions (in pixels) and colours (of 0..255).
        smoothness_weight, smoothness_xy: of the kernel of positions; left out: one pixel wide, or one cell.
        compatibility: "potts", or "learned" in training.
        normalisation: see `DenseCRF`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mode: Literal["inference", "train"] = "inference"
    at: Literal["pixels", "grid"] | None = None
    iterations: int = 10
    appearance_weight: float = 4.0
    appearance_xy: float = 67.0
    appearance_rgb: float = 3.0
    smoothness_weight: float = 3.0
    smoothness_xy: float | None = None
    compatibility: Compatibility = "potts"
    normalisation: Normalisation = "symmetric"

    def __post_init__(self) -> None:
        if self.compatibility == "learned" and not self.learns:
            raise ConfigError("crf: compatibility: learned needs mode: train; without training it stays what potts is")
        self.layer(2, 1)  # refuses numbers that make no CRF

    @property
    def learns(self) -> bool:
        """Whether it is trained with the head."""
        return self.mode == "train"

    @property
    def on_grid(self) -> bool:
        """Whether it works on cells."""
        return self.learns if self.at is None else self.at == "grid"

    def layer(self, classes: int, stride: int) -> DenseCRF:
        """The CRF for maps with a cell every `stride` pixels."""
        return DenseCRF(
            classes,
            iterations=self.iterations,
            appearance_weight=self.appearance_weight,
            appearance_xy=self.appearance_xy / stride,
            appearance_rgb=self.appearance_rgb,
            smoothness_weight=self.smoothness_weight,
            smoothness_xy=1.0 if self.smoothness_xy is None else self.smoothness_xy / stride,
            compatibility=self.compatibility,
            normalisation=self.normalisation,
        )


class CRFHead(nn.Module):
    """Levels, the last of which is the image, RGB in [0, 1], -> log marginals of classes.

    They are given as the head without it gives its scores: on a grid or of pixels, the latter cut to the image. With mode
    "inference" that head alone is trained.

    The parameters of the head keep their names, and those of a CRF that does not learn are no part of the state.

    Args:
        head: of the other levels.
        crf: options.
        classes: scores per pixel.
        stride: pixels per cell of the head's grid.
        others: how many levels the head reads.
    """

    def __init__(self, head: nn.Module, crf: CRF, *, classes: int, stride: int, others: int) -> None:
        super().__init__()
        self._inner = (head,)  # not registered: what it holds is, under the names it has there
        self._parameters, self._buffers = head._parameters, head._buffers
        for name, child in head.named_children():
            self.add_module(name, child)
        self.options, self.stride, self.others = crf, stride if crf.on_grid else 1, others
        self.crf = crf.layer(classes, self.stride)
        if crf.on_grid:
            keep_grid(head)
        if not crf.learns:
            _fix(self.crf)

    def forward(self, levels: list[Tensor]) -> OnGrid | Tensor:
        """Scores or log marginals."""
        *others, image = levels
        (head,) = self._inner
        return self._sharpened(head(others), image)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, also for what the head keeps to itself."""
        self._inner[0].train(mode)
        return super().train(mode)

    def _sharpened(self, scores: OnGrid | Tensor, image: Tensor) -> OnGrid | Tensor:
        if self.training and not self.options.learns:
            return scores
        image = image.clamp(0, 1) * 255
        if not self.options.on_grid:
            pixels = scores.pixels() if isinstance(scores, OnGrid) else scores
            marginals: Tensor = self.crf(to_size(pixels, image.shape[-2:]), image)
            return marginals
        if not isinstance(scores, OnGrid) or scores.stride != self.stride:
            raise TaskError(f"the CRF was made for scores on a grid of stride {self.stride}, which the head did not give")
        grid = OnGrid(self.crf(scores.values, _sampled(image, scores)), scores.stride, scores.corners)
        return grid if self.training else grid.pixels()


class NarrowCRFHead(CRFHead):
    """A `CRFHead` around a head that may run narrow (`engine.narrow`), which then may, too."""

    def narrow(self, place: int, level: Tensor) -> Any:
        """What the head makes of a level; the image itself."""
        head: Any = self._inner[0]
        return level if place == self.others else head.narrow(place, level)

    def join(self, narrowed: list[Any]) -> OnGrid | Tensor:
        """What `forward` gives."""
        *others, image = narrowed
        head: Any = self._inner[0]
        return self._sharpened(head.join(others), image)


def with_crf(recipe: HeadRecipe, crf: CRF, levels: Sequence[Level], classes: int) -> nn.Module:
    """A new head of `recipe` with a CRF; the last of `levels` is the image.

    Raises:
        ConfigError: it is not, it is the only one, or the CRF is to work on the grid of a head that has none.
    """
    *others, image = levels
    if image != Level(3, 1):
        raise ConfigError(f"a CRF sees the image, Level(3, 1), as the last level, tap {IMAGE!r}; given is {image}")
    if not others:
        raise ConfigError(f"a CRF sharpens what a head makes of taps besides {IMAGE!r}; give some, such as taps: [res3, res5]")
    head = recipe.make(others, classes)
    if crf.on_grid and not any(isinstance(part, KeepsGrid) for part in head.modules()):
        raise ConfigError(f"crf: {type(recipe).__name__} scores pixels and has no grid of cells; use at: pixels")
    narrows = hasattr(head, "narrow") and hasattr(head, "join")
    kind = NarrowCRFHead if narrows else CRFHead
    return kind(head, crf, classes=classes, stride=recipe.grid_stride(others), others=len(others))


def _fix(crf: DenseCRF) -> None:
    """Make parameters constants that no optimizer, file or count of parameters knows of."""
    for name, parameter in list(crf.named_parameters(recurse=False)):
        delattr(crf, name)
        crf.register_buffer(name, parameter.detach(), persistent=False)


def _sampled(image: Tensor, grid: OnGrid) -> Tensor:
    """One colour per cell: its mean, or with `corners` that of its pixel."""
    if grid.stride > 1:
        every = grid.stride
        image = image[..., ::every, ::every] if grid.corners else F.avg_pool2d(image, every, ceil_mode=True)
    return to_size(image, grid.values.shape[-2:])
