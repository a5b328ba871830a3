import itertools

import numpy as np
import pytest

from ubertrain.data.rendering.layout import random_scene
from ubertrain.data.rendering.shapes import Box, Cylinder, Floats, Shape, Sphere

SCENES = [random_scene(np.random.default_rng(seed), (2, 6), half_width=0.55) for seed in range(40)]


def within(shape: Shape, point: Floats) -> np.ndarray:
    """Whether points (3, n) of the shape's own coordinates are inside it."""
    x, y, z = point / np.array(shape.half_size, np.float32)[:, None]
    if isinstance(shape, Sphere):
        return x**2 + y**2 + z**2 < 1
    if isinstance(shape, Box):
        return np.maximum(np.maximum(abs(x), abs(y)), abs(z)) < 1
    return (abs(y) < 1) & (np.hypot(x, z) < (1 if isinstance(shape, Cylinder) else (1 + y) / 2))


def test_the_number_of_objects_stays_within_its_bounds() -> None:
    """No room has more objects than asked for, and the crowded ones come close."""
    counts = [len(scene.solids) - 1 for scene in SCENES]
    assert max(counts) <= 6
    assert max(counts) >= 5
    assert np.mean(counts) > 3


def test_objects_do_not_overlap() -> None:
    """Random points inside one object are outside of all others."""
    rng = np.random.default_rng(0)
    for scene in SCENES:
        for solid, other in itertools.permutations(scene.solids[1:], 2):
            point = rng.uniform(-1, 1, size=(3, 2000)) * np.array(solid.shape.half_size)[:, None]
            point = point[:, within(solid.shape, point)] * 0.999
            assert point.shape[1] > 300
            assert not within(other.shape, other.own(solid.turn @ point + solid.position[:, None])).any()


def test_objects_stand_on_something() -> None:
    """The lowest point of each object is at the level of the floor or of another object's top."""
    for scene in SCENES:
        floor = scene.solids[0].position[1] + scene.solids[0].shape.half_size[1]
        tops = [floor, *(solid.position[1] - solid.shape.half_size[1] for solid in scene.solids[1:])]
        for solid in scene.solids[1:]:
            assert np.abs(solid.position[1] + solid.shape.half_size[1] - tops).min() < 1e-5


def test_objects_and_lamps_are_in_the_room() -> None:
    """Nothing sticks through a wall, and lamps hang below the ceiling."""
    for scene in SCENES:
        room = scene.solids[0]
        for solid in scene.solids[1:]:
            x, _, z = solid.shape.half_size
            reach = np.abs(solid.position - room.position)[[0, 2]] + max(x, z)
            assert (reach < np.array(room.shape.half_size)[[0, 2]]).all()
        for light in scene.lights:
            assert (np.abs(light.position - room.position) < room.shape.half_size).all()


def test_the_camera_is_upright_and_in_the_room() -> None:
    """Camera axes are a rotation, right stays level, and the eye is inside of the room and outside of all objects."""
    for scene in SCENES:
        assert np.allclose(scene.camera @ scene.camera.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(scene.camera) == pytest.approx(1, abs=1e-5)
        assert scene.camera[1, 0] == 0
        assert scene.camera[1, 2] > 0.1  # looks down a little
        assert (np.abs(scene.solids[0].position) < scene.solids[0].shape.half_size).all()
        assert all(np.linalg.norm(solid.position) > solid.shape.radius for solid in scene.solids[1:])


def test_rooms_vary() -> None:
    """Kinds, patterns, numbers of lamps and views all occur in variety."""
    assert len({type(solid.shape) for scene in SCENES for solid in scene.solids}) == 5
    assert len({material.texture.pattern for scene in SCENES for solid in scene.solids for material in solid.materials}) == 8
    assert {len(scene.lights) for scene in SCENES} == {1, 2, 3}
    assert len({scene.camera.tobytes() for scene in SCENES}) == 40
