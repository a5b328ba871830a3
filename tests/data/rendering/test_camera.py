import numpy as np
import pytest

from ubertrain.data.rendering.camera import Rendering, render
from ubertrain.data.rendering.scene import Light, Material, Scene, Solid
from ubertrain.data.rendering.shapes import Floats, Room, Shape, Sphere
from ubertrain.data.rendering.textures import Texture

UPRIGHT = np.eye(3, dtype=np.float32)
PLAIN = Texture("plain", 1.0, np.array([1, 0, 0], np.float32), np.zeros(4, np.float32))


def vector(*numbers: float) -> Floats:
    """(3,) float32."""
    return np.array(numbers, np.float32)


def solid(shape: Shape, position: tuple[float, float, float], colour: tuple[float, float, float], shine: float = 0) -> Solid:
    """A shape of one colour."""
    return Solid(shape, vector(*position), UPRIGHT, (Material(vector(*colour), vector(*colour), PLAIN, shine),), (0,))


def picture(*objects: Solid, light: tuple[float, float, float] = (0, -1.8, 0), camera: Floats = UPRIGHT) -> Rendering:
    """Objects in a grey room of 4 x 4 x 8 metres, seen from its middle: 60 x 80 pixels, focal length 60."""
    lights = (Light(vector(*light), vector(2, 2, 2), 0.0),)
    scene = Scene((solid(Room((2, 2, 4)), (0, 0, 0), (0.5, 0.5, 0.5)), *objects), lights, vector(0.3, 0.3, 0.3), camera, 1.0)
    return render(scene, (60, 80), 60.0)


BALL = solid(Sphere(0.5), (0.5, 0.2, 3.0), (0.8, 0.1, 0.1))


def test_a_ball_appears_where_a_pinhole_camera_shows_it() -> None:
    """The ball's pixels are those whose rays pass its centre within its radius; its place is right of and below the middle."""
    shown = picture(BALL).solid == 1
    rows, columns = np.indices((60, 80)) + 0.5
    ray = np.stack([(columns - 40) / 60, (rows - 30) / 60, np.ones_like(rows)])
    ray /= np.linalg.norm(ray, axis=0)
    miss = np.linalg.norm(np.cross(ray, [0.5, 0.2, 3.0], axisa=0), axis=-1)
    assert np.array_equal(shown, miss < 0.5)
    assert np.argwhere(shown).mean(axis=0) == pytest.approx((34, 50), abs=0.7)


def test_depth_is_along_the_axis_and_not_along_the_ray() -> None:
    """The opposite wall, straight ahead, is 4 metres deep at every one of its pixels."""
    shown = picture()
    assert np.allclose(shown.depth[shown.face == 5], 4.0, atol=1e-4)
    assert (shown.face == 5).sum() > 1000


def test_normals_are_in_camera_axes() -> None:
    """The wall ahead faces the camera (0 0 -1); seen by a camera that looks down, the floor's normal leans towards it."""
    ahead = picture()
    assert np.allclose(ahead.normals[:, ahead.face == 5].T, [0, 0, -1], atol=1e-6)
    cos, sin = np.cos(0.4), np.sin(0.4)
    down = picture(camera=np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]], np.float32))
    assert np.allclose(down.normals[:, down.face == 3].T, [0, -cos, -sin], atol=1e-6)


def test_what_faces_the_lamp_is_brighter() -> None:
    """With the lamp at the left, the left of the ball is brighter than its right; with the lamp at the right, the other way."""
    columns = np.argwhere(picture(BALL).solid == 1)[:, 1]
    left, right = slice(columns.min() + 1, columns.min() + 6), slice(columns.max() - 5, columns.max())
    for place, sign in ((-1.8, 1), (1.8, -1)):
        image = picture(BALL, light=(place, 0, 1.5)).image[34, :, 0].astype(int)
        assert sign * (image[left].mean() - image[right].mean()) > 20


def test_colours_are_those_of_the_material() -> None:
    """A red ball is red, a grey room is grey."""
    shown = picture(BALL)
    red, green, blue = shown.image[shown.solid == 1].mean(axis=0)
    assert red > 2 * max(green, blue)
    assert np.ptp(shown.image[shown.solid == 0].mean(axis=0)) < 3


def test_highlights_need_a_shiny_material() -> None:
    """The brightest place of a shiny ball is brighter and whiter than that of a dull one."""
    dull = picture(BALL, light=(0, -1.5, 1))
    shiny = picture(solid(Sphere(0.5), (0.5, 0.2, 3.0), (0.8, 0.1, 0.1), shine=0.6), light=(0, -1.5, 1))
    mine = dull.solid == 1
    assert shiny.image[mine, 2].max() > dull.image[mine, 2].max() + 40


def test_outlines_are_smooth_and_areas_are_not_touched() -> None:
    """Along the ball's outline there are mixed colours between ball and wall; labels stay sharp."""
    shown = picture(solid(Sphere(0.5), (0.5, 0.2, 3.0), (0.9, 0.9, 0.9)), light=(0, -1.8, 0))
    row = shown.image[34, :, 0].astype(int)
    first = int(np.argmax(shown.solid[34] == 1))
    between = sorted((row[first - 2], row[first + 1]))
    assert any(between[0] + 3 < row[column] < between[1] - 3 for column in (first - 1, first))


def test_rendering_is_repeatable() -> None:
    """The same scene gives the same bits."""
    assert np.array_equal(picture(BALL).image, picture(BALL).image)
