"""A scene as a picture, and the geometry that every one of its pixels shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ubertrain.data.rendering.lighting import colours
from ubertrain.data.rendering.scene import Scene
from ubertrain.data.rendering.shapes import Faces, Floats
from ubertrain.data.rendering.surface import Surface, surface_of
from ubertrain.data.rendering.trace import Hits, first_hits

_CONTRAST = 0.08
"""Pixels that differ from a neighbour by more, of 1, are smoothed,"""
_SMOOTHED = 0.15
"""but no more than this share of them, those of the highest contrast: every one costs four rays."""
_SUBPIXELS = ((0.125, 0.375), (0.375, -0.125), (-0.125, -0.375), (-0.375, 0.125))


@dataclass(frozen=True)
class Rendering:
    """A picture and what stands behind the centre of each pixel.

    Attributes:
        image: (height, width, 3) uint8, sRGB, smoothed along edges.
        depth: (height, width) float32 metres along the optical axis.
        normals: (3, height, width) float32 unit vectors in camera axes: x right, y down, z forward.
        solid: (height, width) int16, which of the scene's solids; 0 is the room.
        face: (height, width) int8, which face of it.
        exposure: how long the picture was exposed.
    """

    image: NDArray[np.uint8]
    depth: Floats
    normals: Floats
    solid: NDArray[np.int16]
    face: Faces
    exposure: float


def render(scene: Scene, size: tuple[int, int], focal: float, *, exposure: float | None = None) -> Rendering:
    """The picture of `size` = (height, width) by a pinhole camera of `focal` pixels whose optical axis is in the middle.

    `exposure` is that of another picture; without it the camera chooses, as cameras do: bright scenes get less of it.
    """
    rows, columns = (axis.ravel() + np.float32(0.5) for axis in np.indices(size, dtype=np.float32))
    colour, hits, surface = _look(scene, rows, columns, size, focal)
    if exposure is None:
        exposure = scene.exposure * 0.4 / float(colour.mean())
    picture = _developed(colour, exposure).reshape(3, *size)
    _smooth(picture, scene, focal, exposure)
    return Rendering(
        image=(picture * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0),
        depth=hits.distance.reshape(size),
        normals=(scene.camera.T @ surface.normal).reshape(3, *size),
        solid=hits.solid.reshape(size),
        face=hits.face.reshape(size),
        exposure=exposure,
    )


def _look(scene: Scene, rows: Floats, columns: Floats, size: tuple[int, int], focal: float) -> tuple[Floats, Hits, Surface]:
    """Linear colours (3, n) and what has them, at continuous pixel places; distances are depths, as rays have z = 1."""
    x, y = (columns - size[1] / 2) / focal, (rows - size[0] / 2) / focal
    direction = scene.camera @ np.stack([x, y, np.ones_like(x)]).astype(np.float32)
    hits = first_hits(scene, direction)
    surface = surface_of(scene, hits, direction * hits.distance)
    return colours(scene, hits, surface), hits, surface


def _developed(colour: Floats, exposure: float) -> Floats:
    """Linear light as sRGB from 0 to 1; the brightest parts saturate softly."""
    return (1 - np.exp(-np.float32(exposure) * colour)) ** np.float32(1 / 2.2)


def _smooth(picture: Floats, scene: Scene, focal: float, exposure: float) -> None:
    """Replace pixels of high contrast in `picture` (3, height, width) by the mean of four points within them."""
    contrast = _contrast(picture)
    size = (picture.shape[1], picture.shape[2])
    rows, columns = np.nonzero(contrast > max(_CONTRAST, float(np.quantile(contrast, 1 - _SMOOTHED))))
    down, right = (np.array(offset, np.float32)[:, None] + np.float32(0.5) for offset in zip(*_SUBPIXELS, strict=True))
    fine, _, _ = _look(scene, (rows + down).ravel(), (columns + right).ravel(), size, focal)
    picture[:, rows, columns] = _developed(fine, exposure).reshape(3, len(_SUBPIXELS), -1).mean(axis=1)


def _contrast(picture: Floats) -> Floats:
    """The largest difference (height, width) of any channel of `picture` (3, height, width) to the four neighbours."""
    contrast = np.zeros(picture.shape[1:], np.float32)
    across, down = np.abs(np.diff(picture, axis=2)).max(axis=0), np.abs(np.diff(picture, axis=1)).max(axis=0)
    for part, step in ((contrast[:, 1:], across), (contrast[:, :-1], across), (contrast[1:], down), (contrast[:-1], down)):
        np.maximum(part, step, out=part)
    return contrast
