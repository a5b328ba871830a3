"""Rays against the definition of each solid, which points are inside it: marching along them is slow, and hard to get wrong."""

from collections.abc import Callable

import numpy as np
import pytest

from ubertrain.data.rendering.shapes import Box, Cone, Cylinder, Floats, Room, Shape, Sphere

Inside = Callable[[Floats], np.ndarray]


def in_cone(p: Floats) -> np.ndarray:
    """Below the tip at y = -0.5 and above the base at y = 0.5, within a radius that grows to 0.4."""
    return (np.abs(p[1]) < 0.5) & (np.hypot(p[0], p[2]) < 0.4 * (p[1] + 0.5))


SOLIDS: dict[str, tuple[Shape, Inside]] = {
    "sphere": (Sphere(0.5), lambda p: (p**2).sum(0) < 0.25),
    "box": (Box((0.3, 0.5, 0.4)), lambda p: (np.abs(p) < np.array([[0.3], [0.5], [0.4]])).all(0)),
    "cylinder": (Cylinder(0.4, 0.5), lambda p: (np.hypot(p[0], p[2]) < 0.4) & (np.abs(p[1]) < 0.5)),
    "cone": (Cone(0.4, 0.5), in_cone),
}
every_solid = pytest.mark.parametrize("name", SOLIDS)


def rays(count: int, distance: float = 2.0) -> list[tuple[Floats, Floats]]:
    """Origins (3, 1) around the origin at `distance`, and from each, directions (3, n) towards points near it."""
    rng = np.random.default_rng(0)
    origins = rng.normal(size=(3, 12)).astype(np.float32)
    origins *= distance / np.linalg.norm(origins, axis=0)
    targets = rng.uniform(-0.6, 0.6, size=(12, 3, count)).astype(np.float32)
    return [(origins[:, i : i + 1], targets[i] - origins[:, i : i + 1]) for i in range(12)]


def marched(inside: Inside, origin: Floats, direction: Floats) -> Floats:
    """The first of 3000 steps along each ray that is inside, as a multiple of the direction; infinite if none is."""
    steps = np.linspace(0, 2, 3001)[1:]
    found = np.stack([inside(origin + step * direction) for step in steps])
    return np.where(found.any(axis=0), steps[found.argmax(axis=0)], np.inf)


@every_solid
def test_rays_stop_where_the_solid_begins(name: str) -> None:
    """A ray goes as far as the first point that is inside by definition, and to infinity if there is none."""
    shape, inside = SOLIDS[name]
    hits = 0
    for origin, direction in rays(30):
        distance, _ = shape.hit(origin, direction)
        expected = marched(inside, origin, direction)
        grazing = np.isfinite(distance) != np.isfinite(expected)  # shorter inside than one step
        assert grazing.sum() <= 1
        both = np.isfinite(distance) & np.isfinite(expected)
        assert np.abs(distance[both] - expected[both]).max() < 2e-3
        hits += both.sum()
    assert hits > 100


@every_solid
def test_rays_that_point_away_miss(name: str) -> None:
    """What lies behind the ray's start is not met."""
    shape, _ = SOLIDS[name]
    for origin, direction in rays(30):
        assert np.isinf(shape.hit(origin, -direction)[0]).all()


@every_solid
def test_normals_lead_out(name: str) -> None:
    """A small step along the normal from where a ray met the surface is outside, a step against it is inside."""
    shape, inside = SOLIDS[name]
    for origin, direction in rays(60):
        distance, face = shape.hit(origin, direction)
        hit = np.isfinite(distance)
        point = (origin + distance[hit] * direction[:, hit]).astype(np.float32)
        normal = shape.normal(point, face[hit])
        assert np.abs(np.linalg.norm(normal, axis=0) - 1).max() < 1e-5
        assert not inside(point + 2e-3 * normal).any()
        assert inside(point - 2e-3 * normal).mean() > 0.95  # not in the sharpest corners
        assert ((normal * direction[:, hit]).sum(0) < 1e-3).all()


@every_solid
def test_normals_stand_on_the_surface(name: str) -> None:
    """Neighbouring points of one face differ at right angles to the normal."""
    shape, _ = SOLIDS[name]
    for origin, direction in rays(60):
        beside = direction + np.float32(1e-3) * np.roll(direction, 1, axis=0)
        (first, face), (second, other) = shape.hit(origin, direction), shape.hit(origin, beside)
        same = np.isfinite(first) & np.isfinite(second) & (face == other)
        point = (origin + first[same] * direction[:, same]).astype(np.float32)
        step = origin + second[same] * beside[:, same] - point
        slope = np.abs((step * shape.normal(point, face[same])).sum(0)) / np.linalg.norm(step, axis=0)
        assert np.median(slope) < 0.01


@every_solid
def test_solids_stay_within_their_radius_and_size(name: str) -> None:
    """Nothing of a solid is farther from its centre than `radius`, nor beyond `half_size` along an axis."""
    shape, inside = SOLIDS[name]
    points = np.random.default_rng(0).uniform(-1, 1, size=(3, 20000)).astype(np.float32)
    points = points[:, inside(points)]
    assert np.linalg.norm(points, axis=0).max() <= shape.radius
    reach = np.abs(points).max(axis=1)
    assert (reach <= shape.half_size).all()
    assert (reach > 0.85 * np.array(shape.half_size)).all()


@pytest.mark.parametrize(
    ("shape", "origin", "face"),
    [
        (Box((1, 1, 1)), (-3, 0, 0), 0),
        (Box((1, 1, 1)), (3, 0, 0), 1),
        (Box((1, 1, 1)), (0, -3, 0), 2),
        (Box((1, 1, 1)), (0, 0, 3), 5),
        (Cylinder(1, 1), (3, 0, 0), 0),
        (Cylinder(1, 1), (0, -3, 0), 1),
        (Cylinder(1, 1), (0, 3, 0), 2),
        (Cone(1, 1), (3, 0, 0.1), 0),
        (Cone(1, 1), (0.1, 3, 0), 1),
    ],
)
def test_faces_are_numbered(shape: Shape, origin: tuple[float, ...], face: int) -> None:
    """Creases are where the face changes: caps, sides and bases have the numbers that their classes state."""
    start = np.array(origin, np.float32)[:, None]
    towards = np.array([[0.0], [0.0], [0.1]], np.float32) - start
    assert shape.hit(start, towards)[1].tolist() == [face]


def test_a_room_is_seen_from_inside() -> None:
    """From inside, every ray meets a wall, the floor (face 3) below and the ceiling (face 2) above; normals lead inwards."""
    room, origin = Room((2, 1, 3)), np.array([[0.5], [0.2], [-1.0]], np.float32)
    direction = np.random.default_rng(0).normal(size=(3, 500)).astype(np.float32)
    distance, face = room.hit(origin, direction)
    point = origin + distance * direction
    assert (np.abs(np.abs(point).T - (2, 1, 3)).min(axis=1) < 1e-5).all()
    assert (np.array([2, 1, 3]) + 1e-5 >= np.abs(point).T).all()
    assert (point[1, face == 3] > 0.999).all()
    assert (point[1, face == 2] < -0.999).all()
    assert ((room.normal(point, face) * direction).sum(0) < 0).all()
