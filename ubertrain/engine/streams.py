"""Random numbers of branches: each branch of a step has a stream of its own.

A branch's dropout or sampling then depends neither on when the schedule runs it nor on which other tasks are labelled, and the
engine, which runs branches last to first, draws what plain autograd draws first to last.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from ubertrain.engine.host_random import capture, seeded_apart


class BranchStreams:
    """The streams of one step, derived from torch's global generators as the trunk's forward pass left them.

    Each branch has one for torch, one for Python's `random` and one for numpy's global functions.

    The global generators are not touched by branches, but for one draw at the end of a step in which any branch drew.

    Args:
        images: tells the devices whose generators count.
    """

    def __init__(self, images: Any) -> None:
        self._generators = _generators(images)
        digest = hashlib.sha256(b"".join(_bytes(generator) for generator in self._generators)).digest()
        self._base = int.from_bytes(digest[:7], "little")
        self._used = False

    @contextmanager
    def of(self, branch: int) -> Iterator[None]:
        """A context in which random numbers come from the stream of branch number `branch`."""
        before, number = [_state(generator) for generator in self._generators], self._base + branch
        with seeded_apart(number):
            for generator in self._generators:
                generator.manual_seed(number)
            seeded = self._all_bytes()
            try:
                yield
            finally:
                self._used |= seeded != self._all_bytes()
                self._restore(before)

    def _all_bytes(self) -> list[bytes]:
        return [pickle.dumps(capture()), *map(_bytes, self._generators)]

    def _restore(self, states: list[Tensor]) -> None:
        with _disable_current_modes():
            for generator, state in zip(self._generators, states, strict=True):
                generator.set_state(state)

    def close(self) -> None:
        """Move the global generator on, if any branch drew, so that the next step's streams are others."""
        if self._used:
            torch.empty((), device="cpu").uniform_()  # also where the default device is another


def _generators(images: Any) -> list[torch.Generator]:
    devices = {leaf.device for leaf in pytree.tree_leaves(images) if isinstance(leaf, Tensor)}
    cuda = sorted(device.index or 0 for device in devices if device.type == "cuda")
    return [torch.default_generator, *(torch.cuda.default_generators[index] for index in cuda if torch.cuda.is_available())]


def _state(generator: torch.Generator) -> Tensor:
    with _disable_current_modes():  # a real state, also while everything else is fake or counted
        return generator.get_state()


def _bytes(generator: torch.Generator) -> bytes:
    with _disable_current_modes():
        return generator.get_state().numpy().tobytes()
