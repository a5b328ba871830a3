"""This step's memory against plain autograd's, as tasks are added."""

import copy
from dataclasses import dataclass

import torch

from ubertrain.data.batch import Batch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.meter import LiveBytes
from ubertrain.planning.schedule import Schedule


@dataclass(frozen=True)
class Comparison:
    """Measured peak bytes of one step, static bytes not counted.

    Attributes:
        tasks: how many tasks the step trained.
        ours: by the schedule.
        autograd: by the backward pass of `graph.losses(...)`.
    """

    tasks: int
    ours: int
    autograd: int


def compare_memory(graph: Graph, schedule: Schedule, batch: Batch) -> list[Comparison]:
    """Real steps with the first task, the first two, and so on up to all of `batch`; the graph is not touched."""
    names = [task for task in graph.branches if task in batch.targets]
    return [_compare(graph, schedule, batch, names[:count]) for count in range(1, len(names) + 1)]


def _compare(graph: Graph, schedule: Schedule, batch: Batch, tasks: list[str]) -> Comparison:
    targets = {task: batch.targets[task] for task in tasks}
    trial = copy.deepcopy(graph).train()
    with LiveBytes() as ours:
        Engine(trial, schedule).forward_backward(batch.images, targets)
    trial.zero_grad(set_to_none=True)
    with LiveBytes() as autograd:
        torch.stack(list(trial.losses(batch.images, targets).values())).sum().backward()
    return Comparison(len(tasks), ours.peak, autograd.peak)
