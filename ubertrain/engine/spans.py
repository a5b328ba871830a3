"""Nested recompute: a schedule's spans as nested calls of `torch.utils.checkpoint`, run by a short recursion.

torch restores its random numbers and autocast, and stops a recompute as soon as the last saved tensor is back; `replayed`
restores Python's and numpy's random numbers, `MovedBuffers` buffers; tapped values are handed out in the first run only.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import CheckpointError as RecomputeError
from torch.utils.checkpoint import checkpoint as recomputed_call

from ubertrain.engine.buffers import MovedBuffers
from ubertrain.engine.host_random import HostState, capture, replayed
from ubertrain.engine.inplace import begins_in_place, versions
from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import Item, Schedule, Span

OnStage = Callable[[str, Any], None]
"""Called in the first run of every stage with its name and its output."""


class SpanRunner:
    """Runs the items of a trunk schedule.

    Args:
        stage: name -> module.
        on_stage: see `OnStage`.
    """

    def __init__(self, stage: Callable[[str], nn.Module], on_stage: OnStage) -> None:
        self._stage = stage
        self._on_stage = on_stage
        self.recomputing: Span | None = None

    def run(self, items: Sequence[Item], value: Any, *, first: bool = True, in_span: bool = False) -> Any:
        """The output of `items` on `value`.

        Args:
            items: stages and spans.
            value: any pytree.
            first: whether this is the first run, and no recompute.
            in_span: whether `items` are the inside of a span, whose input must survive for the recompute.
        """
        for place, item in enumerate(items):
            if isinstance(item, Span):
                value = self._run_span(item, value, first)
                continue
            module = self._stage(item)
            if in_span and place == 0 and begins_in_place(module):
                value = pytree.tree_map_only(Tensor, Tensor.clone, value)
            value = module(value)
            if first:
                self._on_stage(item, value)
        return value

    def _run_span(self, span: Span, value: Any, first: bool) -> Any:
        leaves, structure = pytree.tree_flatten(value)  # flat: torch frees and restores tensors among the arguments only
        numbers: list[HostState] = []

        def inside(*inputs: Any) -> Any:
            inner = pytree.tree_unflatten(inputs, structure)
            if not numbers:
                numbers.append(capture())
                return self.run(span.items, inner, first=first, in_span=True)
            self.recomputing = span
            with replayed(numbers[0]):
                return self.run(span.items, inner, first=False, in_span=True)

        buffers = MovedBuffers(self._stage(name) for name in Schedule(span.items).stages)
        before = versions(value)
        result = recomputed_call(inside, *leaves, use_reentrant=False, context_fn=buffers.contexts, determinism_check="default")
        if versions(value) != before:
            raise ScheduleError(
                f"a stage of span {span} writes in place into the span's input, from which the span must be recomputed; use "
                "its out-of-place form (inplace=False), or let the span begin one stage earlier"
            )
        return result


def explain(error: RecomputeError, span: Span | None) -> ScheduleError:
    """torch's complaint about a recompute that did not repeat the first run, in the user's terms."""
    return ScheduleError(
        f"span {span} did not do the same again when it was recomputed: one of its stages depends on something that is neither "
        "its input, its parameters, its buffers nor global random numbers (a generator of its own, a counter, a cache). "
        f"Keep that stage outside parentheses in the schedule, or make it repeatable. torch says: {error}"
    )
