"""What is in a picture: solids with materials in a room, lights, and the camera.

The world has its origin at the camera, x and z along the walls and y straight down, in metres. Colours are linear RGB.
"""

from dataclasses import dataclass, replace

import numpy as np

from ubertrain.data.rendering.shapes import Floats, Shape
from ubertrain.data.rendering.textures import Texture


@dataclass(frozen=True)
class Material:
    """A surface's two colours (3,), the pattern that mixes them, and how much it shines."""

    first: Floats
    second: Floats
    texture: Texture
    shine: float = 0.0
    hardness: float = 30.0

    def colour(self, point: Floats) -> Floats:
        """Linear RGB (3, n) at `point` (3, n) of the solid's own coordinates."""
        share = self.texture.mix(point)
        return self.first[:, None] * (1 - share) + self.second[:, None] * share


@dataclass(frozen=True)
class Solid:
    """A shape at a place.

    Attributes:
        shape: in its own coordinates.
        position: (3,) its centre in the world.
        turn: (3, 3) rotation from its own coordinates to the world's.
        materials: one per face, or one for all.
        classes: class-map id per face, or one for all.
    """

    shape: Shape
    position: Floats
    turn: Floats
    materials: tuple[Material, ...]
    classes: tuple[int, ...]

    def own(self, point: Floats) -> Floats:
        """World points (3, n) in the solid's own coordinates."""
        return self.turn.T @ (point - self.position[:, None])


@dataclass(frozen=True)
class Light:
    """A round lamp: `position` (3,), `colour` (3,) times its strength, `radius` in metres, which softens shadows."""

    position: Floats
    colour: Floats
    radius: float


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture, but for its size.

    Attributes:
        solids: the room first, then the objects.
        lights: at least one.
        ambient: (3,) light from everywhere.
        camera: (3, 3) rotation from camera axes (x right, y down, z forward) to the world's.
        exposure: 1 is well lit.
    """

    solids: tuple[Solid, ...]
    lights: tuple[Light, ...]
    ambient: Floats
    camera: Floats
    exposure: float

    def beside(self, metres: float) -> "Scene":
        """The same world around a camera that stands so many metres further to its right and looks the same way."""
        way = self.camera @ np.array([metres, 0, 0], np.float32)
        return replace(
            self,
            solids=tuple(replace(solid, position=solid.position - way) for solid in self.solids),
            lights=tuple(replace(light, position=light.position - way) for light in self.lights),
        )
