"""A module's attributes, written down and put back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Condition:
    """What every submodule of a module holds now: its attributes, and what lists, dicts and sets among them hold.

    Of tensors that are neither parameters nor buffers, and of random generators, it also keeps the values.
    """

    def __init__(self, root: nn.Module) -> None:
        self._modules = list(root.named_modules())
        self._attributes = [dict(vars(module)) for _, module in self._modules]
        self._inner = [{name: _copied(value) for name, value in held.items()} for held in self._attributes]

    def restore(self) -> list[str]:
        """Put back what has changed since; the paths of the modules it has changed in."""
        changed = []
        for (path, module), held, inner in zip(self._modules, self._attributes, self._inner, strict=True):
            if moved := not _same(vars(module), held):
                vars(module).clear()
                vars(module).update(held)
            for name, copied in inner.items():
                moved |= _put_back(held[name], copied)
            if moved:
                changed.append(path)
        return changed


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value._version, value.detach().clone()
    if isinstance(value, torch.Generator):
        return value.get_state()
    return value.copy() if isinstance(value, (list, dict, set)) else None


def _put_back(value: Any, copied: Any) -> bool:
    """Whether it had to."""
    if isinstance(value, (list, dict, set)):
        if _same(value, copied):
            return False
        value.clear()
        value.extend(copied) if isinstance(value, list) else value.update(copied)
        return True
    if isinstance(value, Tensor) and value._version != copied[0]:
        value.data.copy_(copied[1])
        return True
    if isinstance(value, torch.Generator) and not torch.equal(value.get_state(), copied):
        value.set_state(copied)
        return True
    return False


def _same(value: Any, other: Any) -> bool:
    """Whether two lists, dicts or sets hold the very same objects."""
    if len(value) != len(other):
        return False
    if isinstance(value, dict):
        return all(a == b and x is y for (a, x), (b, y) in zip(value.items(), other.items(), strict=True))
    return value == other if isinstance(value, set) else all(x is y for x, y in zip(value, other, strict=True))
