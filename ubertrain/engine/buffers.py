"""Buffers under recompute: torch restores random numbers, not buffers, so batch-norm statistics would move twice.

The first run of a span notes which buffers it may move and what they were. Every recompute starts from those values, on
copies, and leaves the buffers as the first run left them: afterwards they are those of plain autograd, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple

from torch import Tensor, nn

_ABSENT: Any = object()
"""Stands for a buffer that is not registered."""


class _Slot(NamedTuple):
    owner: nn.Module
    name: str

    def read(self) -> Any:
        return self.owner._buffers.get(self.name, _ABSENT)

    def write(self, value: Any) -> None:
        if value is _ABSENT:
            self.owner._buffers.pop(self.name, None)
        else:
            self.owner._buffers[self.name] = value


class MovedBuffers:
    """What one run of a span does to the buffers of its modules.

    Covers `register_buffer` state that is changed in place, replaced, or made in the run itself (batch norm, spectral norm,
    averages). State that a module keeps elsewhere (a plain tensor attribute, a Python counter) is not seen.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        owners = {id(owner): owner for module in modules for owner in module.modules()}
        self._owners = list(owners.values())
        self._earlier: dict[_Slot, Any] = {}

    def contexts(self) -> tuple[_FirstRun, _Recompute]:
        """The two contexts `torch.utils.checkpoint` asks for: of the first run, and of every recompute."""
        return _FirstRun(self), _Recompute(self)

    def current(self) -> dict[_Slot, Tensor | None]:
        """The buffers that are registered now."""
        return {_Slot(owner, name): value for owner in self._owners for name, value in owner._buffers.items()}


class _FirstRun:
    """Keeps a copy of every buffer until it is known which of them have moved."""

    def __init__(self, buffers: MovedBuffers) -> None:
        self._buffers = buffers

    def __enter__(self) -> None:
        self._before = self._buffers.current()
        self._versions = {slot: value._version for slot, value in self._before.items() if value is not None}
        self._copies = _copies(self._before)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        after = self._buffers.current()
        slots = self._before | after
        self._buffers._earlier = {slot: self._copies.get(slot, _ABSENT) for slot in slots if self._may_have_moved(slot)}
        del self._before, self._copies

    def _may_have_moved(self, slot: _Slot) -> bool:
        """Batch norm, and what writes to `.data`, does not count up versions: in training every buffer is suspect."""
        value = slot.read()
        if value is not self._before.get(slot, _ABSENT):
            return True
        return value is not None and (slot.owner.training or value._version != self._versions[slot])


class _Recompute:
    """Puts copies of the earlier values in place, and what was there back at the end, also when recompute stops early."""

    def __init__(self, buffers: MovedBuffers) -> None:
        self._buffers = buffers

    def __enter__(self) -> None:
        earlier = self._buffers._earlier
        self._later = {slot: slot.read() for slot in earlier}
        for slot, copy in _copies(earlier).items():
            slot.write(copy)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for slot, value in self._later.items():
            slot.write(value)
        del self._later


def _copies(buffers: dict[_Slot, Any]) -> dict[_Slot, Any]:
    """One copy of each tensor; a tensor that stands in two slots stays one, what is no tensor stays itself."""
    copies = {id(value): value.detach().clone() for value in buffers.values() if isinstance(value, Tensor)}
    return {slot: copies.get(id(value), value) for slot, value in buffers.items()}
