"""What stays in memory between steps, and what a budget of the whole device leaves for a step."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ubertrain.engine.graph import Graph
from ubertrain.errors import ConfigError
from ubertrain.planning.every_k import every_k
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import Schedule
from ubertrain.training.config import AUTO, Config
from ubertrain.training.free_memory import SHARE, free_bytes
from ubertrain.units import parse_bytes

_ROUNDING = 512
"""CUDA's allocator hands out multiples of so many bytes."""


@dataclass(frozen=True)
class StaticBytes:
    """What stays in memory between steps, in bytes.

    Attributes:
        parameters: weights and buffers.
        gradients: of the weights that are trained, once each has one.
        optimizer: its running averages of them: two for AdamW, one for SGD with momentum, none for SGD without.
    """

    parameters: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.gradients + self.optimizer


def static_bytes(graph: Graph, config: Config, rounding: int = 1) -> StaticBytes:
    """Bytes of weights, gradients and optimizer state, before any of the latter two exist.

    Args:
        graph: what is trained.
        config: names the optimizer.
        rounding: each tensor counts as its bytes rounded up to a multiple of this.
    """
    parameters = list(graph.parameters())
    trained = _bytes((parameter for parameter in parameters if parameter.requires_grad), rounding)
    averages = 2 if config.optimizer.type == "adamw" else int(config.optimizer.momentum > 0)
    return StaticBytes(_bytes((*parameters, *graph.buffers()), rounding), trained, averages * trained)


def rounding_on(device: torch.device) -> int:
    """The multiple of bytes that memory is handed out in, where torch counts it so."""
    return _ROUNDING if device.type == "cuda" else 1


def whole_budget(config: Config, graph: Graph) -> int | None:
    """The bytes of `memory.budget`, weights, gradients, optimizer state and step together; None if there is no budget.

    "auto" is the share of the device's free bytes that `free_memory.SHARE` tells, and the graph, which is there already.

    Raises:
        ConfigError: "auto", and the system does not tell what is free.
    """
    text = config.memory.budget
    if text != AUTO:
        return None if text is None else parse_bytes(text)
    device = next(graph.parameters()).device
    return static_bytes(graph, config, rounding_on(device)).parameters + int(SHARE[device.type] * free_bytes(device))


def parse_schedule(text: str, graph: Graph) -> Schedule:
    """The schedule behind "keep_all", "every_k:2", or a schedule's own text."""
    stages, tasks = graph.stage_names, list(graph.branches)
    name, _, number = text.partition(":")
    if name == "keep_all" and not number:
        return keep_all(stages, tasks)
    if name == "every_k":
        if not number.isdecimal():
            raise ConfigError(f'{text!r} lacks its number of stages; write it like "every_k:2"')
        return every_k(stages, tasks, int(number))
    return Schedule.parse(text)


def _bytes(tensors: Iterable[Tensor], rounding: int) -> int:
    return sum(-(-tensor.nbytes // rounding) * rounding for tensor in tensors)
