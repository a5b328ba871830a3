"""How bright a surface is: soft ambient light, lamps with soft shadows, and highlights."""

import numpy as np

from ubertrain.data.rendering.scene import Scene, Solid
from ubertrain.data.rendering.shapes import Floats
from ubertrain.data.rendering.surface import Surface
from ubertrain.data.rendering.trace import Hits, lit


def colours(scene: Scene, hits: Hits, surface: Surface) -> Floats:
    """Linear RGB (3, n) of the surface that `hits` met, seen from the world's origin."""
    point, normal = surface.point, surface.normal
    view = -point / np.sqrt(np.einsum("in,in->n", point, point))
    # More light from above than from below, and less in corners that an object closes off.
    sky = np.float32(0.7) - np.float32(0.3) * normal[1]
    diffuse = scene.ambient[:, None] * (sky * _openness(scene, hits, point, normal))
    gloss = np.zeros_like(point)
    for light in scene.lights:
        way = light.position[:, None] - point
        square = np.einsum("in,in->n", way, way)
        way /= np.sqrt(square)
        facing = np.einsum("in,in->n", way, normal)
        strength = lit(scene, light, point) / (1 + np.float32(0.15) * square)
        diffuse += light.colour[:, None] * (strength * np.maximum(facing, 0))
        gloss += light.colour[:, None] * (strength * _highlight(way, view, surface))
    return surface.colour * diffuse + gloss


def _highlight(way: Floats, view: Floats, surface: Surface) -> Floats:
    """Blinn's model (n,): how nearly the normal halves the angle between lamp and viewer, where the material shines at all."""
    shiny = np.flatnonzero(surface.shine)
    half = (way + view).take(shiny, axis=1)
    half /= np.sqrt(np.einsum("in,in->n", half, half) + np.float32(1e-9))
    cosine = np.einsum("in,in->n", half, surface.normal.take(shiny, axis=1))
    highlight = np.zeros_like(surface.shine)
    highlight[shiny] = surface.shine[shiny] * np.maximum(cosine, 0) ** surface.hardness[shiny]
    return highlight


def _openness(scene: Scene, hits: Hits, point: Floats, normal: Floats) -> Floats:
    """The share (n,) of its surroundings that objects do not hide from a point, each object taken for a sphere.

    A sphere of radius r at distance d hides cos(angle to the normal) r^2 / d^2 of the hemisphere.
    """
    open_share = np.ones(point.shape[1], np.float32)
    for number, solid in enumerate(scene.solids[1:], start=1):
        open_share *= 1 - np.where(hits.solid == number, 0, _hidden_by(solid, point, normal))
    return open_share


def _hidden_by(solid: Solid, point: Floats, normal: Floats) -> Floats:
    way = solid.position[:, None] - point
    square = np.einsum("in,in->n", way, way)
    size = np.float32(np.prod(solid.shape.half_size) ** (1 / 3))
    cosine = np.einsum("in,in->n", way, normal) / np.sqrt(square)
    return np.clip(cosine * size**2 / square, 0, 0.9)
