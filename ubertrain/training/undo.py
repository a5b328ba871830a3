"""A training step that fails leaves nothing behind."""

from types import TracebackType
from typing import Self

import torch
from torch import nn

from ubertrain.training import random_state


class Undo:
    """If an exception leaves the block, puts back buffers and random numbers, and clears the gradients.

    Parameters need no copy: inside the block they are read only. So after a failed forward or backward pass the graph is what
    it was before the step, and its state can be saved.
    """

    def __init__(self, graph: nn.Module) -> None:
        self.graph = graph

    def __enter__(self) -> Self:
        self._random = random_state.capture()
        self._buffers = [(buffer, buffer.clone()) for buffer in self.graph.buffers()]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            return
        random_state.restore(self._random)
        with torch.no_grad():
            for buffer, earlier in self._buffers:
                buffer.copy_(earlier)
        self.graph.zero_grad(set_to_none=True)
