import numpy as np

from ubertrain.data.rendering.scene import Light, Scene, Solid
from ubertrain.data.rendering.shapes import Floats, Room, Shape, Sphere
from ubertrain.data.rendering.trace import first_hits, lit

UPRIGHT = np.eye(3, dtype=np.float32)


def vector(*numbers: float) -> Floats:
    """(3,) float32."""
    return np.array(numbers, np.float32)


def solid(shape: Shape, *position: float) -> Solid:
    """A shape at a place; nothing here looks at materials."""
    return Solid(shape, vector(*position), UPRIGHT, (), (0,))


def world(*objects: Solid) -> Scene:
    """Objects in a room of 4 x 4 x 8 metres around the camera."""
    return Scene((solid(Room((2, 2, 4)), 0, 0, 0), *objects), (), vector(1, 1, 1), UPRIGHT, 1.0)


def test_the_nearest_solid_is_seen() -> None:
    """Whatever the order in which solids are listed, a ray meets the first on its way, and the room behind all."""
    near, far = solid(Sphere(0.2), 0, 0, 1), solid(Sphere(0.9), 0, 0, 3)
    direction = np.array([[0, 0.25, 1], [0, 0, 0], [1, 1, 1]], np.float32)
    for objects, seen in (((near, far), [1, 2, 0]), ((far, near), [2, 1, 0])):
        hits = first_hits(world(*objects), direction)
        assert hits.solid.tolist() == seen
        assert np.allclose(hits.distance[[0, 2]], [0.8, 2.0], atol=1e-5)


def test_what_is_behind_the_camera_is_not_seen() -> None:
    """A sphere at the viewer's back hides nothing."""
    assert first_hits(world(solid(Sphere(0.5), 0, 0, -1)), np.array([[0], [0], [1]], np.float32)).solid.tolist() == [0]


def test_a_sphere_casts_a_round_shadow() -> None:
    """A lamp point 3 m above the floor and a ball of 0.3 m halfway: by tangents, the shadow's radius is 0.61 m."""
    scene = world(solid(Sphere(0.3), 0, 0.5, 0))
    radius = 3 * np.tan(np.arcsin(0.3 / 1.5))
    aside = np.linspace(0, 1.9, 400, dtype=np.float32)
    floor = np.stack([aside, np.full_like(aside, 2), np.zeros_like(aside)])
    share = lit(scene, Light(vector(0, -1, 0), vector(1, 1, 1), radius=0.0), floor)
    assert set(np.unique(share)) == {0.0, 1.0}
    assert abs(aside[share == 0].max() - radius) < 0.01
    assert (share[aside > radius + 0.01] == 1).all()


def test_larger_lamps_soften_shadows() -> None:
    """Under a lamp of some size there is a half-shadow: full shadow, then some light, then all of it."""
    scene = world(solid(Sphere(0.3), 0, 0.5, 0))
    aside = np.linspace(0, 1.9, 400, dtype=np.float32)
    floor = np.stack([aside, np.full_like(aside, 2), np.zeros_like(aside)])
    share = lit(scene, Light(vector(0, -1, 0), vector(1, 1, 1), radius=0.2), floor)
    assert share[0] == 0
    assert share[-1] == 1
    assert ((share > 0) & (share < 1)).any()
    assert (np.diff(share) >= 0).all()


def test_only_what_is_between_casts_a_shadow() -> None:
    """Solids behind the lamp, behind the point, or beside the ray leave it lit; a surface does not shade itself."""
    point, lamp = vector(0, 1, 0)[:, None], Light(vector(0, -1, 0), vector(1, 1, 1), radius=0.0)
    for position in ((0, -1.6, 0), (0, 1.6, 0), (0.6, 0, 0)):
        assert lit(world(solid(Sphere(0.5), *position)), lamp, point) == 1
    assert lit(world(solid(Sphere(0.5), 0, 0, 0)), lamp, point) == 0
    assert lit(world(solid(Sphere(0.5), 0, 1.5, 0)), lamp, point) == 1


def test_an_object_close_to_the_lamp_hides_half_of_the_room() -> None:
    """A large lamp just above a ball lights what is above it, and nothing right below it."""
    scene, lamp = world(solid(Sphere(0.5), 0, 0.52, 0)), Light(vector(0, 0, 0), vector(1, 1, 1), radius=0.1)
    assert lit(scene, lamp, np.array([[0, 0.1], [2, -2], [0, 0.1]], np.float32)).tolist() == [0, 1]
