"""Narrow branches: until a branch runs, only what its head makes of each level is held, which is small.

A head may say how it gets by with little of each level:

    narrow(place: int, level) -> any pytree of tensors, one row per image: what it needs of the level at that place of its taps
    join(narrowed: list) -> prediction

with `forward(levels)` doing the same as `join([narrow(place, level) for place, level in enumerate(levels)])`. Neither writes in
place into what it is given, no parameter is used in two places or in both, and `narrow` draws no random numbers, moves no
buffers and gives the same when it is called again. UberNet's head is such: it scores every level by a 1x1 convolution and fuses
the scores, which have few channels.

In the trunk's forward the levels are narrowed, with a graph that saves nothing and is dropped. When the branch runs, joining
them gives their gradients. When the trunk's backward has reached a tap, its level is narrowed again and back-propagated from
these: the order in which plain autograd sums is kept, at the price of one more forward of `narrow`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from ubertrain.engine.branches import backward_from, without_autocast
from ubertrain.engine.graph import Graph, Labelled, term
from ubertrain.engine.host_random import capture
from ubertrain.engine.inplace import versions
from ubertrain.engine.taps import Tap
from ubertrain.errors import ScheduleError, TaskError


def cannot_narrow(graph: Graph, task: str) -> str | None:
    """Why a branch cannot run narrow, as far as its head and loss tell without being run; None if nothing speaks against it."""
    head, branch = graph.heads[task], graph.branches[task]
    if branch.loss is None:
        return "its loss needs the head (`losses`), not only its prediction"
    if not all(callable(getattr(head, name, None)) for name in ("narrow", "join")):
        return f"its head {type(head).__name__} has no narrow(place, level) and join(narrowed)"
    if _definer(head, "forward") < min(_definer(head, "narrow"), _definer(head, "join")):
        return f"{type(head).__name__} has a forward of its own, which the narrow and join that it inherits know nothing of"
    if head._forward_pre_hooks or head._forward_hooks or head._backward_hooks or head._backward_pre_hooks:
        return "its head has hooks, which only a call of the whole head runs"
    return None


def _definer(head: nn.Module, name: str) -> int:
    """How far up among its classes a head's method is defined; 0 is its own class."""
    return next(place for place, kind in enumerate(type(head).__mro__) if name in vars(kind))


class NarrowBranch:
    """A branch that runs narrow, in one step.

    Args:
        graph: holds the branch.
        task: its name; `cannot_narrow` has nothing against it.
        share: its labels and rows.
        batch: the number of images.
    """

    def __init__(self, graph: Graph, task: str, share: Labelled, batch: int) -> None:
        self.task = task
        self._taps = graph.taps[task]
        self._head: Any = graph.heads[task]
        self._branch, self._share, self._batch = graph.branches[task], share, batch
        self._held: dict[int, Tap] = {}
        self._forms: dict[int, Any] = {}
        self._used: set[int] = set()

    @property
    def holds(self) -> bool:
        """Whether anything is held; if not, since no gradient reaches any tap, the branch runs as others do."""
        return bool(self._held)

    def places(self, tap: str) -> list[int]:
        """Where among the branch's levels a tap stands."""
        return [place for place, name in enumerate(self._taps) if name == tap]

    def hold(self, place: int, value: Any) -> None:
        """Narrow the level at a place, whose tap has just been made, and hold the result until the branch runs.

        Raises:
            ScheduleError: `narrow` draws random numbers or moves buffers, so that it could not be done again; it gives a view
                of the level, which would be held with it, or one tensor twice.
        """
        # With a graph, though one that saves nothing: without one some layers take another path, which rounds otherwise.
        with torch.enable_grad(), _saving_nothing(), _uncached(value), self._repeatable(place):
            narrowed = self._narrow(place, Tap(value))
        tensors = [leaf for leaf in pytree.tree_leaves(narrowed) if isinstance(leaf, Tensor)]
        if len(set(map(id, tensors))) < len(tensors):
            raise ScheduleError(
                f"{self._whose(place)} gives one tensor twice, whose gradients plain autograd would sum in another order; give "
                "it once"
            )
        if not _storages(value).isdisjoint(_storages(narrowed)):
            raise ScheduleError(
                f"{self._whose(place)} gives a view of the level, all of which would be held; copy what is needed"
            )
        self._forms[place] = _form(narrowed)
        self._held[place] = Tap(pytree.tree_map_only(Tensor, _leaf, narrowed))

    def run(self, taps: Mapping[str, Tap], scaler: torch.amp.GradScaler | None) -> Tensor:
        """Join what is held, loss and backward to it; from here on only its gradients are held.

        Args:
            taps: those of which nothing is held, since no gradient can reach them.
            scaler: as in `run_branch`.

        Returns:
            The task's term of the objective, a detached scalar.

        Raises:
            TaskError: a loss that is not one value per image.
        """
        torch.clear_autocast_cache()
        rows = len(self._share.rows)
        narrowed = [
            self._held[place].read(range(rows), rows) if place in self._held else self._narrow(place, taps[name])
            for place, name in enumerate(self._taps)
        ]
        values = self._branch.per_row(self._head.join, narrowed, self._share.labels.value, rows=rows, task=self.task)
        self._note_parameters([values])
        loss = backward_from(term(values, self._branch.weight, self._share.divisor), scaler)
        for held in self._held.values():
            held.drop()
        return loss

    def pull(self, place: int, tap: Tap) -> None:
        """Narrow the level at a place again, and back-propagate to `tap` and to the parameters.

        Raises:
            ScheduleError: `narrow` does not do the same again, or uses a parameter that the branch uses elsewhere.
        """
        held = self._held.pop(place)
        if not held.has_gathered:
            return
        torch.clear_autocast_cache()
        narrowed = self._narrow(place, tap)
        self._note_parameters(pytree.tree_leaves(narrowed))
        if _form(narrowed) != self._forms[place]:
            raise ScheduleError(f"{self._whose(place)} did not give the same shapes again; run the branch without narrow")
        roots = held.send(narrowed)
        del narrowed
        if roots:
            with without_autocast(roots[0].device.type):
                torch.autograd.backward(roots)

    def forget(self) -> None:
        """Let go of everything."""
        self._held.clear()

    def _narrow(self, place: int, tap: Tap) -> Any:
        level = tap.read(self._share.rows, self._batch)
        before = versions(level)
        narrowed = self._head.narrow(place, level)
        if versions(level) != before:
            raise TaskError(f"{self._whose(place)} writes in place into the level, which is the trunk's and other tasks' too")
        return narrowed

    @contextmanager
    def _repeatable(self, place: int) -> Iterator[None]:
        """A context in which nothing must be drawn or moved."""
        before, drawn = _values(self._head), pickle.dumps(capture())
        with _NoDraws(partial(self._whose, place)):
            yield
        if drawn != pickle.dumps(capture()):
            raise _draws(self._whose(place), "of Python or numpy")
        if before != _values(self._head):
            raise _moves(self._whose(place))

    def _note_parameters(self, values: Sequence[Any]) -> None:
        """Refuse parameters that have been noted before: their gradients would be summed in another order."""
        new = set(_parameters(values))
        if new & self._used:
            raise ScheduleError(
                f"branch {self.task!r} cannot run narrow: its head uses a parameter for several levels, or both before and "
                "after joining, and the parameter's gradients must be summed in the order of plain autograd"
            )
        self._used |= new

    def _whose(self, place: int) -> str:
        return f"narrow({place}, level) of the head of task {self.task!r}"


class _NoDraws(TorchDispatchMode):
    """Raises where a random number is drawn or batch norm moves its statistics, also on tensors without memory."""

    def __init__(self, whose: Callable[[], str]) -> None:
        super().__init__()
        self._whose = whose

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not _undropped(func, args, kwargs or {}):
            raise _draws(self._whose(), f"({func})")
        if _moves_statistics(func, args, kwargs or {}):
            raise _moves(self._whose())
        return func(*args, **(kwargs or {}))


def _draws(whose: str, which: str) -> ScheduleError:
    return ScheduleError(
        f"{whose} draws random numbers {which} and would draw others in the backward; run the branch without narrow, or draw "
        "in join"
    )


def _moves(whose: str) -> ScheduleError:
    return ScheduleError(
        f"{whose} moves buffers, such as batch norm's statistics, and would move them again in the backward; run the branch "
        "without narrow, or normalise in groups"
    )


def _undropped(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an attention draws nothing, since it drops nothing."""
    return not _given(func, args, kwargs).get("dropout_p", True)


def _moves_statistics(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a batch norm writes into what it is given, which is not counted."""
    given = _given(func, args, kwargs)
    return given.get("running_mean") is not None and given.get("training") is True


def _given(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operation by name, those left out too."""
    named = {argument.name: argument.default_value for argument in func._schema.arguments}
    return named | dict(zip(named, args, strict=False)) | kwargs


def _values(module: nn.Module) -> list[tuple[int, int, bytes]]:
    """What tells whether buffers have moved; their values too, as not all that writes to them is counted."""
    with _disable_current_modes():
        return [(id(buffer), buffer._version, _value(buffer)) for buffer in module.buffers()]


def _value(buffer: Tensor) -> bytes:
    """The memory of a buffer; nothing where it has none."""
    if isinstance(buffer, FakeTensor) or buffer.is_meta:
        return b""
    return buffer.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.is_floating_point() or tensor.is_complex())


def _storages(value: Any) -> set[int]:
    return {leaf.untyped_storage()._cdata for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)}


def _form(value: Any) -> tuple[Any, list[Any]]:
    """Structure and shapes of a pytree."""
    leaves, structure = pytree.tree_flatten(value)
    return structure, [(leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else None for leaf in leaves]


def _saving_nothing() -> Any:
    """A context whose graphs cannot be back-propagated through, and which no recompute around it takes note of."""
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda nothing: nothing)


def _uncached(value: Any) -> Any:
    """Autocast as it is, but casts of weights are not kept: they would have a graph that cannot be used."""
    device = next(leaf.device.type for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))
    return torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), cache_enabled=False)


def _parameters(values: Sequence[Any]) -> Iterator[int]:
    """Ids of the parameters that values depend on."""
    nodes = [value.grad_fn for value in values if isinstance(value, Tensor)]
    seen = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(variable := getattr(node, "variable", None), nn.Parameter):
            yield id(variable)
        nodes += [below for below, _ in node.next_functions]
