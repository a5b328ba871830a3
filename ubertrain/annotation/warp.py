"""One similarity transform for an image and all its annotations."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Warp:
    """Maps source pixels to output pixels by rotation, uniform zoom, flip and shift.

    Coordinates are continuous, x right and y down; the pixel in row i and column j covers [j, j+1] x [i, i+1], its centre is
    (j + 0.5, i + 0.5).

    Attributes:
        matrix: 2x3, output = matrix @ (x, y, 1).
        size: (height, width) of the output, in pixels.
    """

    matrix: Matrix
    size: tuple[int, int]

    @classmethod
    def about(cls, source: tuple[int, int], size: tuple[int, int], *, zoom: float = 1.0, degrees: float = 0.0, flip: bool = False,
              centre: tuple[float, float] | None = None) -> "Warp":  # fmt: skip
        """The warp that puts source point `centre` (default: the middle) in the middle of the output.

        Args:
            source: (height, width) of the source image.
            size: (height, width) of the output.
            zoom: output pixels per source pixel.
            degrees: rotation, counter-clockwise as displayed.
            flip: mirror left and right, before rotating.
            centre: (x, y) in source pixels.
        """
        x, y = centre if centre is not None else (source[1] / 2, source[0] / 2)
        cos, sin = zoom * math.cos(math.radians(degrees)), zoom * math.sin(math.radians(degrees))
        sign = -1.0 if flip else 1.0
        a, b, c, d = sign * cos, sin, -sign * sin, cos
        return cls(((a, b, size[1] / 2 - a * x - b * y), (c, d, size[0] / 2 - c * x - d * y)), size)

    @classmethod
    def fit(cls, source: tuple[int, int], size: tuple[int, int]) -> "Warp":
        """The whole source, centred, as large as it fits into `size` without changing its shape."""
        return cls.about(source, size, zoom=min(size[0] / source[0], size[1] / source[1]))

    @property
    def linear(self) -> Tensor:
        """The (2, 2) part without the shift, float32."""
        return torch.tensor(self.matrix)[:, :2]

    @property
    def zoom(self) -> float:
        """Output pixels per source pixel along a side."""
        (a, b, _), (c, d, _) = self.matrix
        return math.sqrt(abs(a * d - b * c))

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        (a, b, _), (c, d, _) = self.matrix
        return a * d - b * c < 0

    def points(self, xy: Tensor) -> Tensor:
        """Source points (..., 2) as output points (..., 2)."""
        matrix = torch.tensor(self.matrix, dtype=xy.dtype, device=xy.device)
        return xy @ matrix[:, :2].T + matrix[:, 2]

    def inverse(self) -> "Warp":
        """The way back; `size` stays this warp's, since the source size is not known."""
        (a, b, e), (c, d, f) = self.matrix
        det = a * d - b * c
        return Warp(
            ((d / det, -b / det, (b * f - d * e) / det), (-c / det, a / det, (c * e - a * f) / det)),
            self.size,
        )

    def sources(self) -> Tensor:
        """For every output pixel centre, the source point it shows: (height, width, 2), x before y, float32."""
        height, width = self.size
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        return self.inverse().points(torch.stack([x, y], dim=-1))

    def sample(self, values: Tensor, *, mode: str, fill: float) -> Tensor:
        """`values` (channels, height, width), float, as the output shows them: (channels, *size).

        Args:
            mode: "nearest" or "bilinear". Bilinear shrinking by two or more averages whole blocks first, against aliasing.
            fill: the value where the output shows what lies outside the source.
        """
        source = torch.tensor([values.shape[2], values.shape[1]], dtype=torch.float32)
        where = self.sources() / source
        outside = ((where < 0) | (where > 1)).any(dim=-1)
        block = int(1 / self.zoom + 1e-6) if mode == "bilinear" else 1
        if block > 1:
            values = F.avg_pool2d(values[None], block, ceil_mode=True, count_include_pad=False)[0]
            where = where * source / block / torch.tensor([values.shape[2], values.shape[1]])
        grid = (2 * where - 1)[None].to(values.dtype)
        result = F.grid_sample(values[None], grid, mode=mode, padding_mode="border", align_corners=False)[0]
        return result.masked_fill(outside, fill)
