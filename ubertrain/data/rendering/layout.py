"""Rooms, objects and lights drawn at random."""

import colorsys
import math

import numpy as np

from ubertrain.data.rendering.scene import Light, Material, Scene, Solid
from ubertrain.data.rendering.shapes import Box, Cone, Cylinder, Floats, Room, Shape, Sphere
from ubertrain.data.rendering.textures import Texture

CLASSES = ("wall", "floor", "sphere", "box", "cylinder", "cone")
"""Class-map names in the order of their ids; the ceiling counts as wall."""
OBJECT_CLASSES = CLASSES[2:]
_OBJECT_PATTERNS = ("plain", "plain", "checker", "stripes", "noise", "marble", "speckle")
_TRIES = 40


def random_scene(rng: np.random.Generator, objects: tuple[int, int], half_width: float) -> Scene:
    """A room with at least `objects[0]` and at most `objects[1]` objects in view, as far as they find a place.

    Args:
        rng: what all choices are drawn from.
        objects: fewest and most.
        half_width: tangent of half the horizontal field of view.
    """
    table = rng.random(1024, dtype=np.float32)
    yaw, pitch = np.radians(rng.uniform(-30, 30)), np.radians(rng.uniform(10, 24))
    room = _room(rng, table)
    solids = [room]
    for _ in range(int(rng.integers(objects[0], objects[1] + 1))):
        solid = _placed(rng, table, solids, yaw, half_width)
        if solid is not None:
            solids.append(solid)
    ambient = np.float32(rng.uniform(0.15, 0.35)) * _warmth(rng)
    return Scene(tuple(solids), _lights(rng, room), ambient, _around_y(yaw) @ _downward(pitch), float(rng.uniform(0.85, 1.25)))


def _room(rng: np.random.Generator, table: Floats) -> Solid:
    """Four walls, floor and ceiling around the camera at eye level."""
    left, right, behind, ahead = rng.uniform([-4.0, 2.0, -2.0, 4.0], [-2.0, 4.0, -1.5, 7.0])
    down = rng.uniform(1.2, 1.7)
    up = down - rng.uniform(2.5, 3.2)
    position = np.array([(left + right) / 2, (up + down) / 2, (behind + ahead) / 2], np.float32)
    wall = _material(rng, table, ("plain", "plain", "bricks", "stripes", "noise"), dull=1.0, scale=(0.3, 0.8))
    ground = _material(rng, table, ("planks", "planks", "checker", "noise", "speckle", "marble"), dull=0.7, scale=(0.3, 0.7))
    ceiling = _material(rng, table, ("plain",), dull=1.0, scale=(1, 1))
    half = (float(right - left) / 2, float(down - up) / 2, float(ahead - behind) / 2)
    materials = (wall, wall, ceiling, ground, wall, wall)
    return Solid(Room(half), position, np.eye(3, dtype=np.float32), materials, (0, 0, 0, 1, 0, 0))


def _placed(rng: np.random.Generator, table: Floats, solids: list[Solid], yaw: float, half_width: float) -> Solid | None:
    """A new object on the floor, or on an object with a flat top, that touches no other; None if no place is found."""
    kind = int(rng.integers(len(OBJECT_CLASSES)))
    material = _material(rng, table, _OBJECT_PATTERNS, dull=0.0, scale=(0.12, 0.35))
    turn = _around_y(rng.uniform(0, 2 * np.pi))
    bases = [solid for solid in solids[1:] if isinstance(solid.shape, Box | Cylinder) and not _carries(solid, solids)]
    for _ in range(_TRIES):
        shape = _shape(rng, kind, size=rng.uniform(0.25, 0.55))
        if bases and rng.random() < 0.3:
            base = bases[int(rng.integers(len(bases)))]
            room_on_top = min(base.shape.half_size[0], base.shape.half_size[2])
            shape = _shape(rng, kind, size=room_on_top * rng.uniform(0.6, 0.95))
            spot, level = base.position[[0, 2]], base.position[1] - base.shape.half_size[1]
            clear = level - 2 * shape.half_size[1] > -0.3
        else:
            ahead = rng.uniform(1.8, 4.5)
            aside = rng.uniform(-0.8, 0.8) * half_width * ahead
            spot = np.array([aside, ahead], np.float32) @ _around_y(yaw)[::2, ::2].T
            level = solids[0].position[1] + solids[0].shape.half_size[1]
            clear = _clear(solids, spot, _footprint(shape))
        if clear:
            position = np.array([spot[0], level - shape.half_size[1], spot[1]], np.float32)
            return Solid(shape, position, turn, (material,), (CLASSES.index(OBJECT_CLASSES[kind]),))
    return None


def _shape(rng: np.random.Generator, kind: int, size: float) -> Shape:
    """A shape of the class whose footprint has about radius `size`, in metres."""
    tall = float(rng.uniform(0.6, 1.5))
    name = OBJECT_CLASSES[kind]
    if name == "sphere":
        return Sphere(size)
    if name == "box":
        return Box((size * 0.75, size * tall * 0.8, size * float(rng.uniform(0.4, 0.75))))
    return (Cylinder if name == "cylinder" else Cone)(size * 0.8, size * tall)


def _footprint(shape: Shape) -> float:
    """Radius of the circle on the floor that the shape stays within."""
    x, _, z = shape.half_size
    return math.hypot(x, z) if isinstance(shape, Box) else max(x, z)


def _clear(solids: list[Solid], spot: Floats, footprint: float) -> bool:
    """Whether a circle at `spot` = (x, z) lies in the room and on no other object."""
    room, *objects = solids
    x, _, z = room.shape.half_size
    if (np.abs(spot - room.position[[0, 2]]) > np.array([x, z]) - footprint - 0.05).any():
        return False
    gaps = [np.hypot(*(spot - solid.position[[0, 2]])) - _footprint(solid.shape) - footprint for solid in objects]
    return min(gaps, default=1.0) > 0.04


def _carries(base: Solid, solids: list[Solid]) -> bool:
    """Whether another object stands on `base`."""
    return any(solid is not base and np.array_equal(solid.position[[0, 2]], base.position[[0, 2]]) for solid in solids[1:])


def _material(
    rng: np.random.Generator, table: Floats, patterns: tuple[str, ...], *, dull: float, scale: tuple[float, float]
) -> Material:
    """A pattern of two colours that go together, saturated and often shiny (`dull` 0) to pale and never shiny (1)."""
    hue, other = rng.random(), rng.choice([0.0, 0.08, 0.45])
    vivid = 1 - 0.8 * dull
    first = _colour(hue, vivid * rng.uniform(0.45, 0.9), rng.uniform(0.45 + 0.15 * dull, 0.9))
    second = _colour(hue + vivid * other, vivid * rng.uniform(0.1, 0.7), rng.choice([0.2 + 0.3 * dull, 0.9 - 0.2 * dull]))
    across = rng.normal(size=3)
    texture = Texture(
        pattern=str(rng.choice(patterns)),
        scale=float(rng.uniform(*scale)),
        direction=(across / np.linalg.norm(across)).astype(np.float32),
        table=table,
    )
    shine = float(rng.choice([0.0, 0.25, 0.6]) * max(0.0, 1 - 1.2 * dull))
    return Material(first, second, texture, shine, hardness=float(rng.uniform(20, 80)))


def _colour(hue: float, saturation: float, value: float) -> Floats:
    """Linear RGB (3,) of a colour named as people pick it."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32) ** np.float32(2.2)


def _warmth(rng: np.random.Generator) -> Floats:
    """The tint of a light, between candle and sky."""
    warm = rng.uniform(-1, 1)
    return np.array([1 + 0.15 * warm, 1, 1 - 0.2 * warm], np.float32)


def _lights(rng: np.random.Generator, room: Solid) -> tuple[Light, ...]:
    """One to three lamps below the ceiling, the first the strongest."""
    x, y, z = room.shape.half_size
    lamps = []
    for number in range(int(rng.integers(1, 4))):
        place = rng.uniform([-0.8 * x, -0.9 * y, -0.6 * z], [0.8 * x, -0.6 * y, 0.6 * z])
        strength = rng.uniform(1.6, 2.6) if number == 0 else rng.uniform(0.4, 1.0)
        lamps.append(Light(room.position + place.astype(np.float32), strength * _warmth(rng), float(rng.uniform(0.03, 0.15))))
    return tuple(lamps)


def _around_y(angle: float) -> Floats:
    """(3, 3) rotation that takes straight ahead (z) towards the right (x)."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)


def _downward(angle: float) -> Floats:
    """(3, 3) rotation that takes straight ahead (z) down (y)."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]], np.float32)
