"""Which samples every step of a training run gets, as a pure function of the seed and the step.

Nothing here has a state, so a run that is resumed at any step draws what it would have drawn.

Positions (one per image, counted over the run) are dealt out in blocks of B. Block b gives each set its weight's share by
systematic sampling: the points i + r_b for i = 0 .. B - 1 fall into intervals of B times the sets' weights, where
r_b = frac(r_0 + b * golden ratio) fills [0, 1) evenly. So a set's share of a block is off by less than one image, its share of
many blocks by a few, and how often it was drawn before a block is a sum over blocks. Within a block the order is shuffled.
The visits to a set walk through its epochs, each of which is a permutation.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ubertrain.data.reader import Reader
from ubertrain.errors import ConfigError

_BLOCK = 1024
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Draw:
    """One sample to be read: `index` of data set `set`, and the `seed` of everything random that is done to it."""

    set: str
    index: int
    seed: int


class Mixer:
    """Draws images from several data sets by weight, each set epoch by epoch.

    Every image of a set comes once before any comes twice. What a step gets depends on the step, the seed, the batch, the sizes
    of the sets and their weights, and on nothing else.
    """

    def __init__(self, readers: Mapping[str, Reader], weights: Mapping[str, float] | None = None, *, batch: int, seed: int = 0):
        """Draw from `readers`.

        Args:
            readers: name -> data set.
            weights: name -> how often the images of this set are drawn, relative to the others; 1 where nothing is said.
            batch: images per step.
            seed: what every draw follows from.

        Raises:
            ConfigError: no data set or an empty one, a weight that is not a positive number or belongs to no set, or a batch
                below 1.
        """
        given = dict(weights or {})
        if unknown := set(given) - set(readers):
            raise ConfigError(f"a weight for {min(unknown)!r}, which is no data set; there are: {', '.join(readers) or 'none'}")
        if not readers or batch < 1:
            raise ConfigError(f"mixing needs data sets and a batch of at least 1; got {len(readers)} sets, batch {batch}")
        self.readers, self.batch, self.seed = dict(readers), batch, seed
        self.weights = {name: float(given.get(name, 1.0)) for name in readers}
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight > 0):
                raise ConfigError(f"the weight of data set {name!r} must be a positive number; got {weight}")
            if len(readers[name]) == 0:
                raise ConfigError(f"data set {name!r} has no samples")
        borders = np.cumsum(list(self.weights.values()))
        self._borders = np.concatenate([[0.0], borders / borders[-1]]) * _BLOCK
        self._block = lru_cache(maxsize=4)(self._deal)
        self._epoch = lru_cache(maxsize=4 * len(readers))(self._shuffle)

    def draw(self, step: int) -> tuple[Draw, ...]:
        """The samples of step `step`, counted from 0."""
        first = step * self.batch
        return tuple(self._at(position) for position in range(first, first + self.batch))

    def epochs(self, step: int) -> dict[str, float]:
        """How often each set has been gone through before step `step`, in units of its size."""
        block, within = divmod(step * self.batch, _BLOCK)
        before = self._visits_before(block)
        drawn = before + np.bincount(self._block(block)[0][:within], minlength=len(before))
        return {name: int(drawn[i]) / len(reader) for i, (name, reader) in enumerate(self.readers.items())}

    def _at(self, position: int) -> Draw:
        block, within = divmod(position, _BLOCK)
        sets, visits = self._block(block)
        name = list(self.readers)[sets[within]]
        epoch, place = divmod(int(visits[within]), len(self.readers[name]))
        return Draw(name, int(self._epoch(name, epoch)[place]), _hash(self.seed, "draw", position))

    def _deal(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """For the positions of a block, the number of the set and how often it was visited before."""
        before = self._visits_before(block)
        counts = self._visits_before(block + 1) - before
        sets = np.repeat(np.arange(len(counts)), counts)[_permutation(_BLOCK, _hash(self.seed, "block", block))]
        visits = np.empty_like(sets)
        for i, count in enumerate(counts):
            visits[sets == i] = before[i] + np.arange(count)
        return sets, visits

    def _visits_before(self, block: int) -> np.ndarray:
        """How many images of each set the blocks before `block` hold."""
        offset = _hash(self.seed, "offset") / 2**63
        shifts = (offset + _GOLDEN * np.arange(block)) % 1.0
        # The points i + r in [0, x) are ceil(x - r); the last border is exactly _BLOCK, so that each block is full.
        below = np.array([np.ceil(border - shifts).sum() for border in self._borders])
        return np.diff(below).astype(np.int64)

    def _shuffle(self, name: str, epoch: int) -> np.ndarray:
        return _permutation(len(self.readers[name]), _hash(self.seed, "epoch", name, epoch))


def _permutation(count: int, seed: int) -> np.ndarray:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()


def _hash(*words: int | str) -> int:
    """63 random-looking bits that are the same on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=8).digest(), "little") >> 1
