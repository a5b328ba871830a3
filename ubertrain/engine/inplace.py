"""Stages that write into their input: found by version counters, never silently wrong."""

from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.errors import ScheduleError


class TapVersions:
    """Notices when a stage overwrites a tap that branches have still to read."""

    def __init__(self) -> None:
        self._taps: list[tuple[str, Any, list[int]]] = []
        self._passing: list[tuple[str, Any, list[int]]] = []

    def record(self, name: str, value: Any, *, until_next: bool = False) -> None:
        """Remember the tap `name` as it is now; `until_next`: until the next check only, for a tap that must not be held."""
        (self._passing if until_next else self._taps).append((name, value, versions(value)))

    def check(self, stage: str) -> None:
        """Raise `ScheduleError` if a recorded tap has changed; `stage` is what has just run."""
        passing, self._passing = self._passing, []
        for name, value, before in (*self._taps, *passing):
            if versions(value) != before:
                raise ScheduleError(
                    f"stage {stage!r} writes in place into tap {name!r}, which branches read; use the out-of-place form in "
                    f"{stage!r} (inplace=False), or join the two stages and tap their common output"
                )

    def forget(self) -> None:
        """Let go of the taps, which would otherwise live as long as the closures of the recompute."""
        self._taps.clear()
        self._passing.clear()


def versions(value: Any) -> list[int]:
    """How often each tensor in `value` has been written to (0 in inference mode, where torch does not count)."""
    return [0 if leaf.is_inference() else leaf._version for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def begins_in_place(module: nn.Module) -> bool:
    """Whether the first thing a module does is a torch module with `inplace=True` (a stage of a flattened Sequential)."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[0]
    return getattr(module, "inplace", False) is True
