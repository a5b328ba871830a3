"""Keeping what convolutions and matrix products give, so that a stage can be run again without doing them twice.

The recording run of a stage notes the outputs of these operations in order; the run after it is handed them instead. Everything
between them is cheap and is computed again, so that autograd has all it needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointError as RecomputeError

from ubertrain.engine.inplace import versions
from ubertrain.engine.product_ops import is_product
from ubertrain.errors import ScheduleError


class ProductStore:
    """The products of one stage in one step.

    A stage inside a span is recorded when its span is recomputed, and replayed by the recompute that the first run asked for:
    recorder and replayer meet here. A recompute that was stopped before it reached the stage leaves nothing, and then the
    replay simply computes.

    Args:
        stage: its name in the schedule, for messages.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._kept: deque[_Kept] | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """A context whose products are kept, in place of what was kept before.

        Raises:
            ScheduleError: the stage wrote into one of them.
        """
        kept: deque[_Kept] = deque()
        self._kept = None
        with _Recording(kept):
            yield
        for product in kept:
            product.value(self._stage)
        self._kept = kept

    def forget(self) -> None:
        """Let go of what is kept: nothing will be replayed."""
        self._kept = None

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """A context whose products are those kept, each let go as it is handed out, and the rest at the end.

        Raises:
            ScheduleError: a product has been written into since.
            RecomputeError: the operations are not those that were recorded.
        """
        kept, self._kept = self._kept, None
        if kept is None:
            yield
            return
        try:
            with _Replaying(kept, self._stage):
                yield
        finally:
            kept.clear()


@dataclass(frozen=True)
class _Kept:
    """What one product gave."""

    func: Any
    shapes: list[torch.Size]
    result: Any
    versions: list[int]

    def value(self, stage: str) -> Any:
        """The result, unless it has been written into."""
        if versions(self.result) != self.versions:
            raise ScheduleError(
                f"the output of {self.func} in stage [{stage}] is kept, but then written into in place, by the stage itself or "
                f"by what follows it; use the out-of-place form there (inplace=False), or write {stage} without brackets"
            )
        return self.result


class _Recording(TorchDispatchMode):
    """Notes every product that is computed."""

    def __init__(self, kept: deque[_Kept]) -> None:
        super().__init__()
        self._kept = kept

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if is_product(func, args, kwargs):
            alias = pytree.tree_map_only(Tensor, _alias, result)
            self._kept.append(_Kept(func, _shapes(args, kwargs), alias, versions(alias)))
        return result


class _Replaying(TorchDispatchMode):
    """Hands out what was noted."""

    def __init__(self, kept: deque[_Kept], stage: str) -> None:
        super().__init__()
        self._kept = kept
        self._stage = stage

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not is_product(func, args, kwargs):
            return func(*args, **kwargs)
        product = self._kept.popleft() if self._kept else None
        if product is None or product.func is not func or product.shapes != _shapes(args, kwargs):
            raise RecomputeError(f"{func} on {_shapes(args, kwargs)} was run where {product and product.func} was recorded")
        return product.value(self._stage)


def _alias(tensor: Tensor) -> Tensor:
    """The same memory and count of writes, without the graph that `tensor` is about to become part of.

    Below autograd, where this runs, torch makes aliases with a count of their own unless told otherwise.
    """
    with torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.ADInplaceOrView, False):
        return tensor.detach()


def _shapes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Size]:
    return [leaf.shape for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
