"""Random warps for training: zoom, crop, rotation and flip, the same for an image and all its labels."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from ubertrain.annotation.warp import Warp, fitting
from ubertrain.errors import ConfigError


@dataclass(frozen=True)
class RandomWarp:
    """How the warps of training are drawn; the attributes are the keys in YAML.

    Attributes:
        scale: smallest and largest zoom, drawn evenly in the logarithm, in units of `base`.
        degrees: rotations are drawn from [-degrees, degrees].
        flip: probability of exchanging left and right.
        base: what scale 1 means. "fit": the whole image just fits into the output; "cover": the image just covers the
            output; "pixels": one output pixel per image pixel.

    Raises:
        ConfigError: a value outside its range.
    """

    scale: tuple[float, float] = (0.75, 1.25)
    degrees: float = 0.0
    flip: float = 0.5
    base: Literal["fit", "cover", "pixels"] = "fit"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(self.scale))  # YAML has lists only
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"scale must be [smallest, largest] with 0 < smallest <= largest; got {list(self.scale)}")
        if not 0 <= self.degrees <= 180:
            raise ConfigError(f"degrees must be between 0 and 180; got {self.degrees}")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip is a probability, between 0 and 1; got {self.flip}")
        if self.base not in ("fit", "cover", "pixels"):
            raise ConfigError(f'base must be "fit", "cover" or "pixels"; got {self.base!r}')

    def draw(self, source: tuple[int, int], size: tuple[int, int], generator: torch.Generator) -> Warp:
        """A warp from an image of `source` = (height, width) to an output of `size`, magnifying as against `Warp.fit`.

        The crop is placed at random within the image. Where the output is larger than the image, the image is placed at
        random within the output (exactly so without rotation; rotated corners may be cut).
        """
        turn, stretch, mirror, across, down = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        degrees = self.degrees * (2 * turn - 1)
        zoom = self._unit(source, size) * self.scale[0] * (self.scale[1] / self.scale[0]) ** stretch
        cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
        seen_width, seen_height = (size[1] * cos + size[0] * sin) / zoom, (size[1] * sin + size[0] * cos) / zoom
        centre = _place(source[1], seen_width, across), _place(source[0], seen_height, down)
        natural = fitting(source, size)
        return Warp.about(source, size, zoom=zoom, degrees=degrees, flip=mirror < self.flip, centre=centre, natural=natural)

    def _unit(self, source: tuple[int, int], size: tuple[int, int]) -> float:
        """The zoom that scale 1 stands for."""
        ratios = size[0] / source[0], size[1] / source[1]
        return {"fit": min(ratios), "cover": max(ratios), "pixels": 1.0}[self.base]


def _place(length: float, seen: float, fraction: float) -> float:
    """Where to centre a view of `seen` pixels on a side of `length` pixels, between its two extreme places."""
    return seen / 2 + fraction * (length - seen)
