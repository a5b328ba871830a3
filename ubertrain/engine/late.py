"""Late branches: run inside the trunk's backward, when the gradient from above has reached their tap.

Narrow branches (`engine.narrow`) read their taps there once more, in the same way.

The trunk's value passes an identity there. It saves the value as any operation saves its input, so that spans recompute it, and
its backward runs the branches on it and adds their gradient to what has come from above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.engine.inplace import versions
from ubertrain.engine.taps import Tap, add_to
from ubertrain.errors import ScheduleError


class LateTap:
    """A tap that is read during the trunk's backward, in one step.

    Args:
        name: the stage, for messages.
        branches: runs the branches on the tap; called once, by the backward.
        passing: is handed the value when it passes for the first time.

    Attributes:
        root: a scalar from which a backward reaches the tap, also where nothing comes from above; None where no gradient can.
        versions: how often the value's tensors had been written to when it last passed; a recompute may count otherwise.
    """

    def __init__(self, name: str, branches: Callable[[Tap], None], passing: Callable[[Any], None]) -> None:
        self.name = name
        self.branches = branches
        self.passing = passing
        self.root: Tensor | None = None
        self.versions: list[int] = []

    def through(self, value: Any, *, first: bool) -> Any:
        """`value` with its tensors that require a gradient replaced by equal ones behind the tap."""
        if first and differentiable(value):
            self.passing(value)
            passed, trained = self._pass(value)
            self.root = _Start.apply(trained[0])
            return passed
        return value if self.root is None else self._pass(value)[0]

    def forget(self) -> None:
        """Let go of the root, which holds the graph that holds this."""
        self.root = None

    def _pass(self, value: Any) -> tuple[Any, Sequence[Tensor]]:
        leaves, structure = pytree.tree_flatten(value)
        tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}  # one that is there twice is saved once
        slots = [_Slot(list(tensors).index(id(leaf))) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        outputs = _Late.apply(self, _Form(slots, structure), *tensors.values())
        behind = iter(outputs)
        passed = [next(behind) if isinstance(leaf, Tensor) and leaf.requires_grad else leaf for leaf in leaves]
        return pytree.tree_unflatten(passed, structure), outputs


def differentiable(value: Any) -> bool:
    """Whether a gradient can reach anything in `value`."""
    return any(leaf.requires_grad for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


@dataclass(frozen=True)
class _Slot:
    """Stands for a tensor, by its place among those saved."""

    place: int


class _Form(NamedTuple):
    """A pytree whose tensors are left out."""

    slots: list[Any]
    structure: pytree.TreeSpec

    @property
    def places(self) -> list[int]:
        """Which saved tensor stands where, in order; one may stand there several times."""
        return [slot.place for slot in self.slots if isinstance(slot, _Slot)]

    def filled(self, tensors: Sequence[Tensor]) -> Any:
        leaves = [tensors[slot.place] if isinstance(slot, _Slot) else slot for slot in self.slots]
        return pytree.tree_unflatten(leaves, self.structure)


class _Late(torch.autograd.Function):
    """The identity on the tensors that require a gradient; all of them are saved for the branches.

    One that is in the value several times comes out as often: what comes through each place is summed before the places are.
    """

    @staticmethod
    def forward(ctx: Any, late: LateTap, form: _Form, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.late, ctx.form, late.versions = late, form, versions(tensors)
        ctx.save_for_backward(*tensors)
        return tuple(tensors[place].detach() for place in form.places if tensors[place].requires_grad)

    @staticmethod
    def backward(ctx: Any, *above: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        if versions(tensors) != ctx.late.versions:
            raise ScheduleError(
                f"a stage writes in place into tap {ctx.late.name!r}, which late branches have still to read; use the "
                "out-of-place form there (inplace=False), or run them neither late nor narrow"
            )
        tap = Tap(ctx.form.filled(tensors))
        with torch.enable_grad():
            ctx.late.branches(tap)
        trained = [place for place in ctx.form.places if tensors[place].requires_grad]
        incoming = [[part for at, part in zip(trained, above, strict=True) if at == place] for place in range(len(tensors))]
        sums = [_sum(tap.gathered(t), reversed(parts)) for t, parts in zip(tensors, incoming, strict=True)]
        return None, None, *sums


def _sum(own: Tensor | None, above: Iterable[Tensor | None]) -> Tensor | None:
    """Branches first, then each place of the tensor in the value, last to first; only what is ours is written into."""
    total, ours = own, own is not None
    for part in above:
        if total is None:
            total = part
        elif part is not None:
            total, ours = (add_to(total, part) if ours else total + part), True
    return total


class _Start(torch.autograd.Function):
    """A scalar whose backward reaches `tensor` with nothing, and so lets it go on with what has come from elsewhere."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *unused: Tensor) -> None:
        return None
