"""The measured peak of a real step."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from ubertrain.engine.meter import LiveBytes
from ubertrain.training.memory import rounding_on


class CudaPeak:
    """The most bytes that torch's CUDA allocator has out inside the `with` block, above what it had out before.

    A parameter's gradient does not count once it stands in `.grad`, as in `LiveBytes`: the allocator's peak is read whenever a
    gradient arrives, and from then on without it. Unlike `LiveBytes` it sees the workspaces of kernels, those that the first
    step makes and that stay among them, and costs next to nothing.

    Args:
        graph: whose gradients arrive.
        device: a CUDA device.

    Attributes:
        peak: the largest so far.
    """

    def __init__(self, graph: nn.Module, device: torch.device) -> None:
        self.peak = 0
        self._parameters = [parameter for parameter in graph.parameters() if parameter.requires_grad]
        self._device = device

    def __enter__(self) -> Self:
        self._base, self._arrived = torch.cuda.memory_allocated(self._device), set[int]()
        torch.cuda.reset_peak_memory_stats(self._device)
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._arrive) for parameter in self._parameters]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._look()

    def _look(self) -> None:
        self.peak = max(self.peak, torch.cuda.max_memory_allocated(self._device) - self._base)

    def _arrive(self, parameter: Tensor) -> None:
        """A gradient is complete; it may be added to once more, which makes no new one."""
        if parameter.grad is None or id(parameter) in self._arrived:
            return
        self._look()
        self._arrived.add(id(parameter))
        rounding = rounding_on(self._device)
        self._base += -(-parameter.grad.untyped_storage().nbytes() // rounding) * rounding
        torch.cuda.reset_peak_memory_stats(self._device)


PeakMeter = LiveBytes | CudaPeak
"""A context with a `peak`."""


def peak_meter(graph: nn.Module, device: torch.device) -> PeakMeter:
    """What measures a step of `graph` on `device`: the allocator where it keeps count, else `LiveBytes`."""
    return CudaPeak(graph, device) if device.type == "cuda" else LiveBytes()
