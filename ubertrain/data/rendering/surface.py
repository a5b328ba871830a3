"""What the rays meet: places, directions and materials."""

from dataclasses import dataclass

import numpy as np

from ubertrain.data.rendering.scene import Scene
from ubertrain.data.rendering.shapes import Floats
from ubertrain.data.rendering.trace import Hits

FACES = 8
"""No solid has more."""


@dataclass(frozen=True)
class Surface:
    """n points of the scene: `point`, `normal` (unit) and `colour` (linear RGB) are (3, n), `shine` and `hardness` (n,)."""

    point: Floats
    normal: Floats
    colour: Floats
    shine: Floats
    hardness: Floats


def surface_of(scene: Scene, hits: Hits, point: Floats) -> Surface:
    """The surface at the world points (3, n) that `hits` describes."""
    # Sorted by solid and face, every material has its points in one piece; picking them out one material at a time is slow.
    part = hits.solid * FACES + hits.face
    order = np.argsort(part, kind="stable")
    part, sorted_point = part[order], point.take(order, axis=1)
    table = np.empty((8, point.shape[1]), np.float32)
    for number, solid in enumerate(scene.solids):
        start, stop = np.searchsorted(part, (number * FACES, (number + 1) * FACES))
        own, face = solid.own(sorted_point[:, start:stop]), (part[start:stop] - number * FACES).astype(np.int8)
        table[:3, start:stop] = solid.turn @ solid.shape.normal(own, face)
        limits = np.searchsorted(face, np.arange(1, len(solid.materials)))
        pieces = zip([0, *limits], [*limits, len(face)], solid.materials, strict=True)
        for first, last, material in ((first, last, material) for first, last, material in pieces if last > first):
            table[3:6, start + first : start + last] = material.colour(own[:, first:last])
            table[6, start + first : start + last] = material.shine
            table[7, start + first : start + last] = material.hardness
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    table = table.take(back, axis=1)
    return Surface(point, table[:3], table[3:6], table[6], table[7])
