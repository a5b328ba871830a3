"""Buffers under recompute: torch restores random numbers, not buffers, so batch-norm statistics would move twice.

The first run of a span notes which buffers it may move and what they were. Every recompute starts from those values, on
copies, and leaves the buffers as the first run left them: afterwards they are those of plain autograd, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

from torch import Tensor, nn


class _Slot(NamedTuple):
    owner: nn.Module
    name: str


class MovedBuffers:
    """What one run of a span does to the buffers of its modules.

    Covers `register_buffer` state that is changed in place or replaced (batch norm, spectral norm, averages). State that a
    module keeps elsewhere (a plain tensor attribute, a Python counter) is not seen.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        owners = {id(owner): owner for module in modules for owner in module.modules()}
        self._slots = [_Slot(owner, name) for owner in owners.values() for name in owner._buffers]
        self._earlier: dict[_Slot, Tensor] = {}

    def contexts(self) -> tuple[_FirstRun, _Recompute]:
        """The two contexts `torch.utils.checkpoint` asks for: of the first run, and of every recompute."""
        return _FirstRun(self), _Recompute(self)

    def current(self) -> dict[_Slot, Tensor]:
        """The buffers that are there now; None entries are left out."""
        return {slot: value for slot in self._slots if (value := slot.owner._buffers.get(slot.name)) is not None}


class _FirstRun:
    """Keeps a copy of every buffer until it is known which of them have moved."""

    def __init__(self, buffers: MovedBuffers) -> None:
        self._buffers = buffers

    def __enter__(self) -> None:
        self._before = self._buffers.current()
        self._versions = {slot: value._version for slot, value in self._before.items()}
        self._copies = _copies(self._before)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        after = self._buffers.current()
        self._buffers._earlier = {
            slot: self._copies[slot]
            for slot, value in self._before.items()
            if _may_move(slot, value) or after.get(slot) is not value or value._version != self._versions[slot]
        }
        del self._before, self._copies


class _Recompute:
    """Puts copies of the earlier values in place, and what was there back at the end, also when recompute stops early."""

    def __init__(self, buffers: MovedBuffers) -> None:
        self._buffers = buffers

    def __enter__(self) -> None:
        earlier = self._buffers._earlier
        self._later = {slot: slot.owner._buffers[slot.name] for slot in earlier}
        for slot, copy in _copies(earlier).items():
            slot.owner._buffers[slot.name] = copy

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for slot, value in self._later.items():
            slot.owner._buffers[slot.name] = value
        del self._later


def _may_move(slot: _Slot, value: Tensor) -> bool:
    """Batch norm writes its statistics without counting up their version, so in training every float buffer is suspect."""
    return slot.owner.training and value.is_floating_point()


def _copies(buffers: dict[_Slot, Tensor]) -> dict[_Slot, Tensor]:
    """One copy of each tensor; a tensor that stands in two slots stays one."""
    copies = {id(value): value.detach().clone() for value in buffers.values()}
    return {slot: copies[id(value)] for slot, value in buffers.items()}
