"""Random numbers of Python and numpy under recompute, where torch restores its own, and in branches."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

HostState = tuple[Any, Any]
"""The states of Python's and numpy's global generators."""


def capture() -> HostState:
    """The states as they are now."""
    return random.getstate(), np.random.get_state()


@contextmanager
def replayed(state: HostState) -> Iterator[None]:
    """A context whose random numbers are those that followed `state`, and that leaves the generators as it found them."""
    later = capture()
    _restore(state)
    try:
        yield
    finally:
        _restore(later)


@contextmanager
def seeded_apart(seed: int) -> Iterator[None]:
    """A context whose random numbers are those of `seed`, a number from 0, and that leaves the generators as it found them."""
    later = capture()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        _restore(later)


def _restore(state: HostState) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
