"""What one step needs: peak bytes and FLOPs by our meters, seconds, gradients against plain autograd's."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peers import Step
from torch import Tensor, nn

import ubertrain as ut
from ubertrain.measuring.fakes import faked
from ubertrain.measuring.work import Work, flops

Run = Callable[[], object]
"""One step, all arguments given."""


@dataclass(frozen=True)
class Needs:
    """Peak bytes (`LiveBytes`) and FLOPs (`Work`) of one step."""

    peak_bytes: int
    flops: float


def needs(run: Run) -> Needs:
    """Of a real step, which takes place. Torch's own FLOP counter would keep tensors alive under the byte meter."""
    with ut.LiveBytes() as meter, Work(flops) as work:
        run()
    return Needs(meter.peak, work.total)


def fake_needs(step: Step, graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> Needs:
    """Of a step on tensors without memory, which computes nothing."""
    with faked(graph, images, targets) as (copied, batch, labels):
        return needs(lambda: step(copied, batch, {task: label.value for task, label in labels.items()}))


def with_schedule(schedule: ut.Schedule) -> Step:
    """Our engine as a step."""

    def step(graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> None:
        ut.Engine(graph, schedule).forward_backward(images, targets)

    return step


@dataclass(frozen=True)
class Outcome:
    """What a step left: gradients by name, and buffers."""

    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def outcome(graph: nn.Module) -> Outcome:
    """Of the last step."""
    gradients = {name: p.grad.clone() for name, p in graph.named_parameters() if p.grad is not None}
    return Outcome(gradients, {name: buffer.clone() for name, buffer in graph.named_buffers()})


def restore(graph: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    """Put earlier buffers back, forget gradients, and start the random numbers anew."""
    for name, buffer in graph.named_buffers():
        buffer.copy_(buffers[name])
    graph.zero_grad(set_to_none=True)
    torch.manual_seed(1)


def difference(ours: Outcome, reference: Outcome) -> dict[str, bool | float]:
    """Whether gradients and buffers are bit for bit the reference's, and the gradients' relative distance.

    "gradient_error" is |a - b| / |b| over all parameters, "worst_error" max |a - b| / max |b|: a parameter alone may have a
    gradient that is nothing but rounding.
    """
    pairs = [(ours.gradients[name].double(), gradient.double()) for name, gradient in reference.gradients.items()]
    apart = sum((a - b).square().sum().item() for a, b in pairs)
    norm = sum(b.square().sum().item() for _, b in pairs)
    worst, largest = (
        max(value.abs().max().item() for value in values) for values in ([a - b for a, b in pairs], [b for _, b in pairs])
    )
    return {
        "bitwise": ours.gradients.keys() == reference.gradients.keys() and all(torch.equal(a, b) for a, b in pairs),
        "gradient_error": (apart / norm) ** 0.5 if norm else apart,
        "worst_error": worst / largest if largest else worst,
        "buffers_equal": all(torch.equal(ours.buffers[name], buffer) for name, buffer in reference.buffers.items()),
    }


def interleaved(runs: Mapping[str, Run], rounds: int, before: Run, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every run in every round; all take turns, each other round in the opposite order.

    Args:
        runs: name -> step.
        rounds: how often each is run.
        before: called before each, outside of the clock.
        device: is waited for.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 == 0 else list(runs)[::-1]:
            before()
            seconds[name].append(_seconds(runs[name], device))
    return seconds


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> float:
    """Median over the rounds of the ratio to the reference in the same round."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))


def _seconds(run: Run, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
