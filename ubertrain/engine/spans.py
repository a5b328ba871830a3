"""Nested recompute: a schedule's spans as nested calls of `torch.utils.checkpoint`, run by a short recursion.

torch restores its random numbers and autocast, and stops a recompute as soon as the last saved tensor is back; `replayed`
restores Python's and numpy's random numbers, `MovedBuffers` buffers; tapped values are handed out in the first run only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import CheckpointError as RecomputeError
from torch.utils.checkpoint import checkpoint as recomputed_call

from ubertrain.engine.buffers import MovedBuffers
from ubertrain.engine.host_random import HostState, capture, replayed
from ubertrain.engine.inplace import begins_in_place, versions
from ubertrain.engine.products import ProductStore
from ubertrain.engine.watch import Watch
from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import Item, Products, Schedule, Span, stage_of

OnStage = Callable[[str, Any], None]
"""Called in the first run of every stage with its name and its output."""
Run = Callable[[], AbstractContextManager[None]]
"""Makes the context of a run."""


class Gate(Protocol):
    """What the trunk's value passes between a tapped stage and the next one, in every run."""

    def through(self, value: Any, *, first: bool) -> Any:
        """The value to go on with; `first` is false in a recompute."""


class SpanRunner:
    """Runs the items of a schedule, the trunk's or a head's.

    Args:
        stage: name -> module.
        on_stage: see `OnStage`.
        gates: stage -> what its value passes. A gate stands outside the spans that end at its stage, where the value is there
            anyway.
        watch: is told what is run.
    """

    def __init__(
        self,
        stage: Callable[[str], nn.Module],
        on_stage: OnStage,
        *,
        gates: Mapping[str, Gate] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._stage = stage
        self._on_stage = on_stage
        self._gates = gates or {}
        self._watch = watch or Watch()
        self._products: dict[str, ProductStore] = {}
        self.recomputing: Item | None = None

    def run(self, items: Sequence[Item], value: Any, *, first: bool = True, in_span: bool = False, records: bool = True) -> Any:
        """The output of `items` on `value`.

        Args:
            items: stages and spans.
            value: any pytree.
            first: whether this is the first run, and no recompute.
            in_span: whether `items` are the inside of a span, whose input must survive for the recompute.
            records: whether backpropagation follows before the items are run once more, so that products are worth keeping.
        """
        for place, item in enumerate(items):
            if isinstance(item, Span):
                value = self._recomputed(item, item.items, value, first)
            elif isinstance(item, Products):
                value = self._run_products(item, value, first, records)
            else:
                value = self._run_stage(item, value, first, keeps_input=in_span and place == 0)
            if not in_span or place < len(items) - 1:
                value = self._pass_gate(item, value, first)
        return value

    def _run_stage(self, name: str, value: Any, first: bool, keeps_input: bool) -> Any:
        module = self._stage(name)
        if keeps_input and begins_in_place(module):
            value = pytree.tree_map_only(Tensor, Tensor.clone, value)
        with self._watch.during(f"forward {name}" if first else f"recompute {name}"):
            value = module(value)
        if first:
            self._on_stage(name, value)
        return value

    def _run_products(self, item: Products, value: Any, first: bool, records: bool) -> Any:
        store = self._products.setdefault(item.stage, ProductStore(item.stage))
        recording = store.recording if records else nullcontext
        value = self._recomputed(item, (item.stage,), value, first, recording, store.replaying)
        if not any(leaf.requires_grad for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)):
            store.forget()
        return value

    def _pass_gate(self, item: Item, value: Any, first: bool) -> Any:
        while isinstance(item, Span):
            item = item.items[-1]
        gate = self._gates.get(stage_of(item))
        return value if gate is None else gate.through(value, first=first)

    def _recomputed(
        self, item: Item, inside: Sequence[Item], value: Any, first: bool, once: Run = nullcontext, again: Run = nullcontext
    ) -> Any:
        """Run the items inside `item` so that they are run again: now within the context `once`, later within `again`."""
        leaves, structure = pytree.tree_flatten(value)  # flat: torch frees and restores tensors among the arguments only
        numbers: list[HostState] = []

        def run(*inputs: Any) -> Any:
            inner = pytree.tree_unflatten(inputs, structure)
            if not numbers:
                numbers.append(capture())
                with once():
                    return self.run(inside, inner, first=first, in_span=True, records=False)
            self.recomputing = item
            with replayed(numbers[0]), again():
                return self.run(inside, inner, first=False, in_span=True)

        buffers = MovedBuffers(self._stage(name) for name in Schedule(tuple(inside)).stages)
        before = versions(value)
        result = recomputed_call(run, *leaves, use_reentrant=False, context_fn=buffers.contexts, determinism_check="default")
        if versions(value) != before:
            raise ScheduleError(
                f"a stage of span {item} writes in place into the span's input, from which the span must be recomputed; use "
                "its out-of-place form (inplace=False), or let the span begin one stage earlier"
            )
        return result


@contextmanager
def explained(runner: SpanRunner, where: str = "") -> Iterator[None]:
    """A context for a backward through what `runner` has run: a failure leaves nothing alive, and a recompute that did not
    repeat the first run is told in the user's terms, after the words `where`.

    Raises:
        ScheduleError: a span did not do the same again.
    """
    try:
        yield
    except BaseException as error:
        # What was ready to run when something failed is held by torch until the next backward begins: here is one.
        torch.zeros((), device="cpu", requires_grad=True).clone().backward()
        if isinstance(error, RecomputeError):
            raise ScheduleError(
                f"{where}span {runner.recomputing} did not do the same again when it was recomputed: one of its stages depends "
                "on something that is neither its input, its parameters, its buffers nor global random numbers (a generator of "
                "its own, a counter, a cache). Keep that stage outside parentheses and brackets in the schedule, or make it "
                f"repeatable. torch says: {error}"
            ) from error
        raise
