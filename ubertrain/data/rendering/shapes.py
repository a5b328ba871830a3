"""Where rays meet the surfaces of solids, and which way those surfaces face.

All coordinates are a shape's own: its centre is the origin, y points down, lengths are metres. Points and directions are (3, n)
float32, distances are multiples of the direction's length and infinite where a ray misses. Faces are smooth parts of a surface,
numbered from 0; two faces meet in a crease.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Faces = NDArray[np.int8]

_NEAR = np.float32(1e-4)  # a ray does not meet the surface it starts on


class Shape(ABC):
    """A convex solid, or the inside of one."""

    @property
    @abstractmethod
    def half_size(self) -> tuple[float, float, float]:
        """Half of the extent along x, y and z, in metres."""

    @property
    def radius(self) -> float:
        """The shape lies within this distance of its centre, in metres."""
        return float(np.linalg.norm(self.half_size))

    @abstractmethod
    def hit(self, origin: Floats, direction: Floats) -> tuple[Floats, Faces]:
        """How far (n,) the rays from one `origin` (3, 1) along `direction` (3, n) go, and the face (n,) they meet."""

    @abstractmethod
    def normal(self, point: Floats, face: Faces) -> Floats:
        """Unit vectors (3, n) that point away from the surface at `point` (3, n), towards whoever can see it."""


@dataclass(frozen=True)
class Sphere(Shape):
    """A sphere of radius `size`."""

    size: float

    @property
    def half_size(self) -> tuple[float, float, float]:
        return self.size, self.size, self.size

    @property
    def radius(self) -> float:
        return self.size

    def hit(self, origin: Floats, direction: Floats) -> tuple[Floats, Faces]:
        enter, _ = _roots(_dot(direction, direction), _dot(origin, direction), _dot(origin, origin) - self.size**2)
        return _ahead(enter), np.zeros(enter.shape, np.int8)

    def normal(self, point: Floats, face: Faces) -> Floats:
        return point / np.float32(self.size)


@dataclass(frozen=True)
class Box(Shape):
    """A box; `half` is half of its sides. Faces are 2 * axis + (0 on the lower side, 1 on the upper)."""

    half: tuple[float, float, float]

    @property
    def half_size(self) -> tuple[float, float, float]:
        return self.half

    def hit(self, origin: Floats, direction: Floats) -> tuple[Floats, Faces]:
        enter, leave = _slabs(self.half, origin, direction)
        axis = enter.argmax(axis=0)
        distance = enter.max(axis=0)
        distance = np.where(distance < leave.min(axis=0), distance, np.float32(np.inf))
        return _ahead(distance), _side(axis, direction, upper_when_forward=False)

    def normal(self, point: Floats, face: Faces) -> Floats:
        return _axis_normal(face)


@dataclass(frozen=True)
class Room(Box):
    """The same seen from inside: floor (face 3, as y points down), ceiling (2) and four walls."""

    def hit(self, origin: Floats, direction: Floats) -> tuple[Floats, Faces]:
        _, leave = _slabs(self.half, origin, direction)
        axis = leave.argmin(axis=0)
        return leave.min(axis=0), _side(axis, direction, upper_when_forward=True)

    def normal(self, point: Floats, face: Faces) -> Floats:
        return -_axis_normal(face)


@dataclass(frozen=True)
class Cylinder(Shape):
    """An upright cylinder. Face 0 is round, 1 is the top, 2 the bottom."""

    size: float
    half_height: float

    @property
    def half_size(self) -> tuple[float, float, float]:
        return self.size, self.half_height, self.size

    @property
    def radius(self) -> float:
        return float(np.hypot(self.size, self.half_height))

    def hit(self, origin: Floats, direction: Floats) -> tuple[Floats, Faces]:
        flat_o, flat_d = origin[::2], direction[::2]
        round_in, round_out = _roots(_dot(flat_d, flat_d), _dot(flat_o, flat_d), _dot(flat_o, flat_o) - self.size**2)
        level_in, level_out = _slabs((self.half_height,), origin[1:2], direction[1:2])
        enter = np.maximum(round_in, level_in[0])
        inside = enter < np.minimum(round_out, level_out[0])
        cap = np.where(direction[1] > 0, np.int8(1), np.int8(2))
        face = np.where(level_in[0] > round_in, cap, np.int8(0))
        return _ahead(np.where(inside, enter, np.float32(np.inf))), face

    def normal(self, point: Floats, face: Faces) -> Floats:
        normal = point / np.float32(self.size)
        normal[1] = 0
        normal[:, face == 1] = [[0], [-1], [0]]
        normal[:, face == 2] = [[0], [1], [0]]
        return normal


@dataclass(frozen=True)
class Cone(Shape):
    """An upright cone on a base of radius `size`. Face 0 is round, 1 is the base."""

    size: float
    half_height: float

    @property
    def half_size(self) -> tuple[float, float, float]:
        return self.size, self.half_height, self.size

    @property
    def radius(self) -> float:
        return float(np.hypot(self.size, self.half_height))

    @property
    def slope(self) -> np.float32:
        """Radius gained per metre below the tip."""
        return np.float32(self.size / (2 * self.half_height))

    def hit(self, origin: Floats, direction: Floats) -> tuple[Floats, Faces]:
        tip, base = origin[1] + np.float32(self.half_height), np.float32(self.half_height) - origin[1]
        flat_o, flat_d, steep = origin[::2], direction[::2], self.slope**2
        first, second = _roots(
            _dot(flat_d, flat_d) - steep * direction[1] ** 2,
            _dot(flat_o, flat_d) - steep * tip * direction[1],
            _dot(flat_o, flat_o) - steep * tip**2,
        )
        side = np.minimum(self._within(first, tip, direction), self._within(second, tip, direction))
        floor = base / _nonzero(direction[1])
        spot = flat_o + floor * flat_d
        floor = np.where((_dot(spot, spot) < self.size**2) & (floor > _NEAR), floor, np.float32(np.inf))
        return np.minimum(side, floor), (floor < side).astype(np.int8)

    def _within(self, distance: Floats, tip: Floats, direction: Floats) -> Floats:
        """`distance` where it lies ahead and between tip and base, else infinity; the mirror cone above the tip is not ours."""
        below_tip = tip + distance * direction[1]
        good = (below_tip > 0) & (below_tip < 2 * self.half_height) & (distance > _NEAR)
        return np.where(good, distance, np.float32(np.inf))

    def normal(self, point: Floats, face: Faces) -> Floats:
        normal = point.copy()
        normal[1] = -self.slope * np.sqrt(_dot(point[::2], point[::2]))
        normal /= np.sqrt(_dot(normal, normal)) + np.float32(1e-12)
        normal[:, face == 1] = [[0], [1], [0]]
        return normal


def _dot(first: Floats, second: Floats) -> Floats:
    return np.einsum("in,in->n", *np.broadcast_arrays(first, second))


def _nonzero(values: Floats) -> Floats:
    """`values` with zeros made tiny, so that dividing by them gives a large number."""
    return np.where(np.abs(values) < 1e-9, np.float32(1e-9), values)


def _ahead(distance: Floats) -> Floats:
    """Infinity where the surface lies behind the ray's start."""
    return np.where(distance > _NEAR, distance, np.float32(np.inf))


def _roots(square: Floats, half: Floats, constant: Floats) -> tuple[Floats, Floats]:
    """Both solutions of square t^2 + 2 half t + constant = 0, infinite where there are none; in order if square > 0."""
    room = half**2 - square * constant
    root = np.sqrt(np.maximum(room, 0))
    square = _nonzero(square)
    none = room <= 0
    first, second = (-half - root) / square, (-half + root) / square
    return np.where(none, np.float32(np.inf), first), np.where(none, np.float32(np.inf), second)


def _slabs(half: tuple[float, ...], origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """Where rays enter and leave the space between each pair of parallel planes, (pairs, n) each."""
    inverse = np.float32(1) / _nonzero(direction)
    reach = np.array(half, np.float32)[:, None] * np.abs(inverse)
    middle = -origin * inverse
    return middle - reach, middle + reach


def _side(axis: NDArray[np.intp], direction: Floats, *, upper_when_forward: bool) -> Faces:
    """Face of a box that is met along `axis`, by the sign of the direction."""
    forward = np.take_along_axis(direction, axis[None], axis=0)[0] > 0
    return (2 * axis + (forward == upper_when_forward)).astype(np.int8)


def _axis_normal(face: Faces) -> Floats:
    """Outward normals of the faces of a box, (3, n)."""
    table = np.zeros((3, 6), np.float32)
    table[np.arange(6) // 2, np.arange(6)] = [-1, 1, -1, 1, -1, 1]
    return table[:, face]
