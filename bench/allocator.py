"""The peak of a step by torch's own allocator: a yardstick that knows nothing of our meters."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

_CALL = "one operator call"


@dataclass(frozen=True)
class Allocated:
    """Most bytes that torch's allocator had out at once, beyond what was out before.

    Attributes:
        all: with the scratch memory of kernels.
        tensors: without it: no block counts that one operator both takes and gives back. None where that cannot be told.
    """

    all: int
    tensors: int | None


def allocated(graph: nn.Module, run: Callable[[], object], device: torch.device) -> Allocated:
    """The peak of one step.

    On a CPU the running sum of the profiler's allocation events, on CUDA the allocator's statistics (less what cuBLAS keeps).
    Gradients are moved into memory that was there before, as soon as they are complete.
    """
    with _static_gradients(graph):
        return Allocated(_cuda_peak(run, device), None) if device.type == "cuda" else _events_peak(run)


class _Calls(TorchDispatchMode):
    """Marks every operator that torch dispatches below autograd: what our meters see between two of them are tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with record_function(_CALL):
            return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Event:
    """Bytes taken or, negative, given back at an address, by which marked operator (0: between operators)."""

    time: int
    address: int
    bytes: int
    call: int


def _events_peak(run: Callable[[], object]) -> Allocated:
    with _errors_dropped(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler, _Calls():
        run()
    tree = profiler.profiler.kineto_results.experimental_event_tree()
    events = sorted(_memory_events(tree, call=0), key=lambda event: event.time)
    scratch = _scratch(events)
    return Allocated(_peak(events), _peak([event for number, event in enumerate(events) if number not in scratch]))


def _memory_events(tree: Sequence[Any], call: int) -> Iterator[_Event]:
    for event in tree:
        if event.typed[0].name == "Allocation":
            yield _Event(event.start_time_ns, event.typed[1].ptr, event.typed[1].alloc_size, call)
        inside = event.start_time_ns if event.name == _CALL else call
        yield from _memory_events(event.children, inside)


def _scratch(events: Sequence[_Event]) -> set[int]:
    """The positions of the events of blocks that one operator both takes and gives back."""
    taken: dict[int, int] = {}
    found: set[int] = set()
    for number, event in enumerate(events):
        if event.bytes > 0:
            taken[event.address] = number
        elif (start := taken.pop(event.address, None)) is not None and event.call and events[start].call == event.call:
            found |= {start, number}
    return found


def _peak(events: Sequence[_Event]) -> int:
    return max(accumulate((event.bytes for event in events), initial=0))


def _cuda_peak(run: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


@contextmanager
def _errors_dropped() -> Iterator[None]:
    """The profiler's library writes two lines to stderr at every use."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _static_gradients(graph: nn.Module) -> Iterator[None]:
    """Parameters' gradients, which count as static bytes, stand in memory made beforehand."""
    places = {parameter: torch.empty_like(parameter) for parameter in graph.parameters() if parameter.requires_grad}

    def move(parameter: Any) -> None:
        if parameter.grad is not places[parameter]:
            parameter.grad = places[parameter].copy_(parameter.grad)

    handles = [parameter.register_post_accumulate_grad_hook(move) for parameter in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        graph.zero_grad(set_to_none=True)
