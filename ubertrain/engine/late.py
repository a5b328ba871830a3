"""Late branches: run inside the trunk's backward, when the gradient from above has reached their tap.

Narrow branches (`engine.narrow`) read their taps there once more, in the same way.

The trunk's value passes an identity there. It saves the value as any operation saves its input, so that spans recompute it, and
its backward runs the branches on it and adds their gradient to what has come from above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.engine.inplace import versions
from ubertrain.engine.taps import Tap
from ubertrain.errors import ScheduleError


class LateTap:
    """A tap that is read during the trunk's backward, in one step.

    Args:
        name: the stage, for messages.
        branches: runs the branches on the tap; called once, by the backward.
        passing: is handed the value when it passes for the first time.

    Attributes:
        root: a scalar from which a backward reaches the tap, also where nothing comes from above; None where no gradient can.
    """

    def __init__(self, name: str, branches: Callable[[Tap], None], passing: Callable[[Any], None]) -> None:
        self.name = name
        self.branches = branches
        self.passing = passing
        self.root: Tensor | None = None

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
        tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}  # one that is there twice passes once
        slots = [_Slot(list(tensors).index(id(leaf))) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        trained = [key for key, tensor in tensors.items() if tensor.requires_grad]
        outputs = _Late.apply(self, _Form(slots, structure), *tensors.values())
        behind = dict(zip(trained, outputs, strict=True))
        return pytree.tree_unflatten([behind.get(id(leaf), leaf) for leaf in leaves], structure), outputs


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

    def filled(self, tensors: Sequence[Tensor]) -> Any:
        leaves = [tensors[slot.place] if isinstance(slot, _Slot) else slot for slot in self.slots]
        return pytree.tree_unflatten(leaves, self.structure)


class _Late(torch.autograd.Function):
    """The identity on the tensors that require a gradient; all of them are saved for the branches."""

    @staticmethod
    def forward(ctx: Any, late: LateTap, form: _Form, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.late, ctx.form, ctx.versions = late, form, versions(tensors)
        ctx.save_for_backward(*tensors)
        return tuple(tensor.detach() for tensor in tensors if tensor.requires_grad)

    @staticmethod
    def backward(ctx: Any, *above: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        if versions(tensors) != ctx.versions:
            raise ScheduleError(
                f"a stage writes in place into tap {ctx.late.name!r}, which late branches have still to read; use the "
                "out-of-place form there (inplace=False), or run them neither late nor narrow"
            )
        tap = Tap(ctx.form.filled(tensors))
        with torch.enable_grad():
            ctx.late.branches(tap)
        incoming = iter(above)
        return None, None, *(_sum(tap.gathered(t), next(incoming)) if t.requires_grad else None for t in tensors)


def _sum(own: Tensor | None, above: Tensor | None) -> Tensor | None:
    """In place where `own` has memory of its own for every value: the sum and one part are the most there is."""
    if own is None or above is None:
        return above if own is None else own
    return own + above if 0 in own.stride() else own.add_(above)


class _Start(torch.autograd.Function):
    """A scalar whose backward reaches `tensor` with nothing, and so lets it go on with what has come from elsewhere."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *unused: Tensor) -> None:
        return None
