"""Patterns in space: how much of its second colour a material has at a point."""

from dataclasses import dataclass

import numpy as np

from ubertrain.data.rendering.shapes import Floats

PATTERNS = ("plain", "checker", "stripes", "planks", "bricks", "noise", "marble", "speckle")
_PRIMES = np.array([73856093, 19349663, 83492791], np.int64)


@dataclass(frozen=True)
class Texture:
    """A solid pattern, cut by whatever surface it is on.

    Attributes:
        pattern: one of `PATTERNS`.
        scale: metres per repetition.
        direction: (3,) unit vector across the stripes.
        table: random numbers from 0 to 1, a power of two of them, that noise looks up.
    """

    pattern: str
    scale: float
    direction: Floats
    table: Floats

    def mix(self, point: Floats) -> Floats:
        """The share (n,) of the second colour at `point` (3, n), from 0 to 1."""
        # Off the lattice, so that a face that lies in a lattice plane does not flicker between its two sides.
        place = point / np.float32(self.scale) + np.float32(0.437)
        mixed: Floats = getattr(self, f"_{self.pattern}")(place)
        return mixed

    def _plain(self, place: Floats) -> Floats:
        return np.zeros(place.shape[1], np.float32)

    def _checker(self, place: Floats) -> Floats:
        return (np.floor(place).sum(axis=0) % 2).astype(np.float32)

    def _stripes(self, place: Floats) -> Floats:
        return (self.direction @ place % 1 < 0.5).astype(np.float32)

    def _planks(self, place: Floats) -> Floats:
        across = self.direction @ place * 2
        grain = self._noise(place * np.array([[1.0], [1.0], [0.3]], np.float32))
        gap = (across % 1 < 0.06).astype(np.float32)
        return np.maximum(0.55 * self._random(np.floor(across)[None]) + 0.3 * grain, gap)

    def _bricks(self, place: Floats) -> Floats:
        row = np.floor(place[1] * 2)
        column = place[0] + place[2] + np.float32(0.5) * (row % 2)
        mortar = (place[1] * 2 % 1 < 0.12) | (column % 1 < 0.06)
        tint = np.float32(0.3) * self._random(np.stack([row, np.floor(column)]))
        return np.where(mortar, np.float32(1), tint)

    def _noise(self, place: Floats) -> Floats:
        return np.float32(0.65) * self._smooth(place) + np.float32(0.35) * self._smooth(place * np.float32(2.7))

    def _marble(self, place: Floats) -> Floats:
        wave = np.sin(np.float32(2 * np.pi) * (self.direction @ place + np.float32(1.5) * self._smooth(place)))
        return (np.float32(0.5) + np.float32(0.5) * wave) ** 2

    def _speckle(self, place: Floats) -> Floats:
        return np.clip(self._smooth(place * 6) * 8 - np.float32(4.9), 0, 1)

    def _smooth(self, place: Floats) -> Floats:
        """Value noise: random numbers on a lattice, smoothly interpolated."""
        cell = np.floor(place)
        x, y, z = _eased(place - cell)
        corner = cell.astype(np.int64) * _PRIMES[:, None]
        left, right = corner, corner + _PRIMES[:, None]
        total = np.zeros(place.shape[1], np.float32)
        for z_key, z_part in ((left[2], 1 - z), (right[2], z)):
            for y_key, y_part in ((left[1], 1 - y), (right[1], y)):
                key = z_key ^ y_key
                near, far = self._look_up(key ^ left[0]), self._look_up(key ^ right[0])
                total += z_part * y_part * (near + x * (far - near))
        return total

    def _random(self, cell: Floats) -> Floats:
        """A random number (n,) for each whole-numbered `cell` (axes, n)."""
        keys = cell.astype(np.int64) * _PRIMES[: len(cell), None]
        return self._look_up(np.bitwise_xor.reduce(keys, axis=0))

    def _look_up(self, key: np.ndarray) -> Floats:
        return self.table[key & (len(self.table) - 1)]


def _eased(fraction: Floats) -> Floats:
    """Slopes that start and end flat, so that the lattice does not show."""
    return fraction * fraction * (3 - 2 * fraction)
