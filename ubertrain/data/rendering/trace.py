"""What every ray meets first."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ubertrain.data.rendering.scene import Light, Scene, Solid
from ubertrain.data.rendering.shapes import Faces, Floats

# Places on a lamp from which light comes, (3, spots): a level disc of radius 1.
_DISC = np.array([[0.6, -0.8, -0.6, 0.8], [0, 0, 0, 0], [0.8, 0.6, -0.8, -0.6]], np.float32)
# The share of them that is left when those whose bits are set are hidden.
_LIT = np.array([1 - bits.bit_count() / _DISC.shape[1] for bits in range(2 ** _DISC.shape[1])], np.float32)


@dataclass(frozen=True)
class Hits:
    """For n rays: how far they go in multiples of their direction, which solid they meet (0 is the room), and which face."""

    distance: Floats
    solid: NDArray[np.int16]
    face: Faces


def first_hits(scene: Scene, direction: Floats) -> Hits:
    """What the camera, at the world's origin, sees along `direction` (3, n)."""
    origin = np.zeros(3, np.float32)
    room, *objects = scene.solids
    distance, face = room.shape.hit(room.own(origin[:, None]), room.turn.T @ direction)
    solid = np.zeros(distance.shape, np.int16)
    square = np.einsum("in,in->n", direction, direction)
    for number, candidate in enumerate(objects, start=1):
        rays = _near(candidate, origin, direction, square)
        reach, part = candidate.shape.hit(candidate.own(origin[:, None]), candidate.turn.T @ direction.take(rays, axis=1))
        nearer = reach < distance[rays]
        rays = rays[nearer]
        distance[rays], face[rays], solid[rays] = reach[nearer], part[nearer], number
    return Hits(distance, solid, face)


def lit(scene: Scene, light: Light, point: Floats) -> Floats:
    """The share of the lamp (n,), from 0 to 1, that can be seen from `point` (3, n); the room itself casts no shadow."""
    spots = light.position[:, None] + light.radius * _DISC
    direction = point - light.position[:, None]
    square = np.einsum("in,in->n", direction, direction)
    hidden = np.zeros(point.shape[1], np.uint8)  # one bit per spot
    for solid in scene.solids[1:]:
        rays = _near(solid, light.position, direction, square, margin=light.radius)
        target = solid.own(point.take(rays, axis=1))
        bits = np.zeros(rays.size, np.uint8)
        for number, spot in enumerate(solid.own(spots).T[:, :, None]):
            reach, _ = solid.shape.hit(spot, target - spot)
            bits |= (reach < 0.998).astype(np.uint8) << number
        hidden[rays] |= bits
    return _LIT[hidden]


def _near(solid: Solid, origin: Floats, direction: Floats, square: Floats, margin: float = 0.0) -> NDArray[np.intp]:
    """Indices of the rays that pass the sphere around `solid` within `margin`; `square` is the directions' squared length."""
    way = solid.position - origin
    room = float(way @ way) - (solid.shape.radius + margin) ** 2
    if room <= 0:
        return np.arange(len(square))
    along = way @ direction
    return np.flatnonzero((along > 0) & (along * along > np.float32(room) * square))
