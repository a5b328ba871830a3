"""The direction that the surface under every pixel faces."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.values import expect, expect_tensor
from ubertrain.annotation.warp import Warp


class Normals(Annotation):
    """(3, height, width) float32 unit vectors in the camera's axes: x right, y down, z forward, away from the viewer.

    A visible surface has z < 0. The zero vector is unknown.
    """

    key = "normals"
    tolerance: ClassVar[float] = 0.02
    """How far a length may be from 1; normals stored in 8 bits are within 0.01 of it."""

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """Raise `DataError` unless `value` covers the image with vectors of length 1 or 0."""
        normals = expect_tensor(value, "normals", (3, *size), torch.float32)
        length = _length(normals)
        broken = int((~length.isfinite()).sum())
        expect(not broken, f"normals are not finite at {broken} pixels; mark unknown normals as 0 0 0")
        bad = length[((length - 1).abs() > cls.tolerance) & (length != 0)]
        complaint = f"{bad.numel()} have not; the first has {bad[:1].tolist()}"
        expect(not bad.numel(), f"normals must have length 1, or 0 where unknown; {complaint}")

    @classmethod
    def warp(cls, value: Any, warp: Warp) -> Tensor:
        """The nearest normal, turned and mirrored with the image plane: (x, y) by the warp's linear part over its zoom.

        z stays, and so does the length. Nearest, so that known and unknown normals are never mixed.
        """
        normals = warp.sample(value, mode="nearest", fill=0.0)
        turned = torch.einsum("ij,jhw->ihw", warp.linear / warp.zoom, normals[:2])
        result = torch.cat([turned, normals[2:]])
        return result / _length(result).clamp(min=1e-6)

    @classmethod
    def collate(cls, values: list[Any]) -> Tensor:
        """(rows, 3, height, width) float32."""
        return torch.stack(values)

    @classmethod
    def draw(cls, image: np.ndarray, value: Any) -> np.ndarray:
        """Red faces right, green faces up, blue faces the viewer: a frontal surface is light blue; unknown is black."""
        right, down, away = np.asarray(value, dtype=np.float32)
        colour = np.stack([right, -down, -away], axis=-1)
        known = (colour != 0).any(axis=-1, keepdims=True)
        return np.where(known, 127.5 * (colour.clip(-1, 1) + 1), 0).astype(np.uint8)


def _length(normals: Tensor) -> Tensor:
    """Lengths (height, width) of (3, height, width) vectors; ten times as fast as `norm` over a first dimension of three."""
    return normals.square().sum(dim=0).sqrt()
