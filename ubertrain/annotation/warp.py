"""One similarity transform for an image and all its annotations."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.errors import DataError

Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
Mode = Literal["nearest", "bilinear", "max"]

# Output pixel centres may fall exactly between two source pixels; what rounding leaves of "exactly" must not decide.
_NUDGE = 1e-6


@dataclass(frozen=True)
class Warp:
    """Maps source pixels to output pixels by rotation, uniform zoom, flip and shift.

    Coordinates are continuous, x right and y down; the pixel in row i and column j covers [j, j+1] x [i, i+1], its centre is
    (j + 0.5, i + 0.5).

    Attributes:
        matrix: 2x3, output = matrix @ (x, y, 1).
        size: (height, width) of the output, in pixels.
        natural: the zoom at which things look as far away as they are, 1 unless it is said; see `magnification`.

    Raises:
        DataError: `matrix` shears, stretches or collapses; no rule for depth or normals would be right then.
    """

    matrix: Matrix
    size: tuple[int, int]
    natural: float = 1.0

    def __post_init__(self) -> None:
        (a, b, _), (c, d, _) = self.matrix
        largest = max(abs(value) for value in (a, b, c, d))
        shear = max(abs(a * c + b * d), abs(a * a + b * b - c * c - d * d))
        if not largest > 0 or not shear <= 1e-4 * largest**2:
            raise DataError(f"a warp only rotates, zooms by one factor, flips and shifts; got matrix {self.matrix}")

    @classmethod
    def about(
        cls, source: tuple[int, int], size: tuple[int, int], *, zoom: float = 1.0, degrees: float = 0.0,
        flip: bool = False, centre: tuple[float, float] | None = None, natural: float = 1.0,
    ) -> "Warp":  # fmt: skip
        """The warp that puts source point `centre` (default: the middle) in the middle of the output.

        Args:
            source: (height, width) of the source image.
            size: (height, width) of the output.
            zoom: output pixels per source pixel.
            degrees: rotation, counter-clockwise as displayed.
            flip: mirror left and right, before rotating.
            centre: (x, y) in source pixels.
            natural: see the attribute.
        """
        x, y = centre if centre is not None else (source[1] / 2, source[0] / 2)
        cos, sin = zoom * math.cos(math.radians(degrees)), zoom * math.sin(math.radians(degrees))
        sign = -1.0 if flip else 1.0
        a, b, c, d = sign * cos, sin, -sign * sin, cos
        return cls(((a, b, size[1] / 2 - a * x - b * y), (c, d, size[0] / 2 - c * x - d * y)), size, natural)

    @classmethod
    def fit(cls, source: tuple[int, int], size: tuple[int, int]) -> "Warp":
        """The whole source, centred, as large as it fits into `size` without changing its shape; depths stay as they are."""
        zoom = fitting(source, size)
        return cls.about(source, size, zoom=zoom, natural=zoom)

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
    def magnification(self) -> float:
        """How many times as large, and so as near, things look as they do in an image at its natural zoom."""
        return self.zoom / self.natural

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        (a, b, _), (c, d, _) = self.matrix
        return a * d - b * c < 0

    def points(self, xy: Tensor) -> Tensor:
        """Source points (..., 2) as output points (..., 2)."""
        matrix = torch.tensor(self.matrix, dtype=xy.dtype, device=xy.device)
        return xy @ matrix[:, :2].T + matrix[:, 2]

    def inverse(self, size: tuple[int, int] | None = None) -> "Warp":
        """The way back. Its output has `size`, which should be the source's; without it, this warp's own size."""
        (a, b, e), (c, d, f) = self.matrix
        det = a * d - b * c
        matrix = ((d / det, -b / det, (b * f - d * e) / det), (-c / det, a / det, (c * e - a * f) / det))
        return Warp(matrix, size or self.size, 1 / self.natural)

    def then(self, after: "Warp") -> "Warp":
        """The one warp that does this one first and `after` next, without sampling twice."""
        (a, b, e), (c, d, f) = self.matrix
        (p, q, u), (r, s, v) = after.matrix
        first = (p * a + q * c, p * b + q * d, p * e + q * f + u)
        second = (r * a + s * c, r * b + s * d, r * e + s * f + v)
        return Warp((first, second), after.size, self.natural * after.natural)

    def sources(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """For every output pixel centre, the source point it shows: (height, width, 2), x before y."""
        (a, b, e), (c, d, f) = self.inverse().matrix
        y = torch.arange(self.size[0], dtype=torch.float64)[:, None] + 0.5
        x = torch.arange(self.size[1], dtype=torch.float64) + 0.5
        return torch.stack([a * x + b * y + e, c * x + d * y + f], dim=-1).to(dtype)

    def sample(self, values: Tensor, *, mode: Mode, fill: float) -> Tensor:
        """`values` (channels, height, width) as the output shows them: (channels, *size), of the same dtype.

        Args:
            values: any dtype; floating for "bilinear".
            mode: "nearest" takes the pixel under each output pixel's centre. "max" takes the largest pixel under each
                output pixel's whole area, so that thin lines survive shrinking. "bilinear" interpolates; when shrinking by
                two or more it averages whole blocks first, against aliasing.
            fill: the value where the output shows what lies outside the source.
        """
        source = self.sources(torch.float64)
        limit = torch.tensor([values.shape[2], values.shape[1]], dtype=torch.float64)
        outside = ((source < -_NUDGE) | (source > limit + _NUDGE)).any(dim=-1)
        if mode == "bilinear":
            result = self._interpolate(values, source / limit)
        else:
            result = self._pick(values, source, window=self._footprint if mode == "max" else 1)
        return result.masked_fill(outside, fill)

    @property
    def _footprint(self) -> int:
        """Side, in whole source pixels, of the upright square around the (perhaps rotated) area of an output pixel."""
        (a, b, _), _ = self.matrix
        return max(1, math.ceil((abs(a) + abs(b)) / self.zoom**2 - _NUDGE))

    @staticmethod
    def _pick(values: Tensor, source: Tensor, window: int) -> Tensor:
        """The largest value in the `window` x `window` pixels around each source point; 1 is the nearest pixel."""
        if window > 1:
            values = F.max_pool2d(values[None], window, stride=1, padding=window // 2)[0]
        # Entry p of an even window is centred on the border before pixel p, not on the middle of pixel p.
        index = (source + (_NUDGE if window % 2 else 0.5 + _NUDGE)).floor().long()
        column = index[..., 0].clamp(0, values.shape[2] - 1)
        row = index[..., 1].clamp(0, values.shape[1] - 1)
        flat = (row * values.shape[2] + column).flatten()
        return values.flatten(1).index_select(1, flat).unflatten(1, source.shape[:2])

    def _interpolate(self, values: Tensor, where: Tensor) -> Tensor:
        """Bilinear values at `where`, source points as fractions of the source's width and height."""
        block = int(1 / self.zoom + _NUDGE)
        if block > 1:
            side = torch.tensor([values.shape[2], values.shape[1]])
            values = F.avg_pool2d(values[None], block, ceil_mode=True, count_include_pad=False)[0]
            where = where * side / (block * torch.tensor([values.shape[2], values.shape[1]]))
        grid = (2 * where - 1)[None].to(values.dtype)
        return F.grid_sample(values[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def fitting(source: tuple[int, int], size: tuple[int, int]) -> float:
    """The zoom at which the whole of `source` = (height, width) just fits into `size`."""
    return min(size[0] / source[0], size[1] / source[1])
