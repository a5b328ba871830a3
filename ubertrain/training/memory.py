"""How much memory a training step takes, and which schedule it follows because of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from ubertrain.annotation.warp import Warp
from ubertrain.data.batch import Batch
from ubertrain.data.loading import warped
from ubertrain.data.reader import Reader
from ubertrain.data.sample import Sample
from ubertrain.engine.fit import fit
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.rehearse import rehearse
from ubertrain.errors import BudgetError, ConfigError, DataError, UbertrainError
from ubertrain.planning.every_k import every_k
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import Schedule
from ubertrain.task import Task
from ubertrain.training.config import Config
from ubertrain.training.precision import autocast_of
from ubertrain.units import format_bytes, parse_bytes

_EXAMPLES = 32
"""How many labels of a kind are looked at for the fullest."""


@dataclass(frozen=True)
class StaticBytes:
    """What stays in memory between steps, in bytes.

    Attributes:
        parameters: weights and buffers.
        gradients: of the weights that are trained, once each has one.
        optimizer: its running averages of them.
    """

    parameters: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.gradients + self.optimizer


@dataclass(frozen=True)
class Candidate:
    """A schedule that a step could follow.

    Attributes:
        name: as `memory.schedule` takes it.
        schedule: what it keeps and recomputes.
        peak_bytes: of the step, exactly; what is static is not in it.
        recompute: extra work as a share of the trunk's forward pass.
    """

    name: str
    schedule: Schedule
    peak_bytes: int
    recompute: float


def static_bytes(graph: Graph, config: Config) -> StaticBytes:
    """Bytes of weights, gradients and optimizer state, before any of the latter two exist."""
    parameters = list(graph.parameters())
    trained = sum(parameter.nbytes for parameter in parameters if parameter.requires_grad)
    averages = 2 if config.optimizer.type == "adamw" else int(config.optimizer.momentum > 0)
    held = sum(tensor.nbytes for tensor in (*parameters, *graph.buffers()))
    return StaticBytes(held, trained, averages * trained)


def full_batch(config: Config, tasks: Mapping[str, Task], readers: Mapping[str, Reader]) -> Batch:
    """A batch whose every image carries every label, for measuring: what a step needs when everything is labelled.

    Each task's label is the fullest among the first samples that carry it, repeated; a later one with more boxes needs more.

    Raises:
        DataError: no sample of any training set carries a task's label.
    """
    examples = {name: _example(config, task.label, readers) for name, task in tasks.items()}
    size, count = config.data.size, config.data.batch
    image = next(iter(examples.values())).image.float() / 255
    targets = {
        name: Labels(tasks[name].annotation.collate([sample.annotations[tasks[name].label]] * count))
        for name, sample in examples.items()
    }
    return Batch(image.expand(count, 3, *size).contiguous(), targets, tuple(f"example/{row}" for row in range(count)))


def candidates(graph: Graph, batch: Batch) -> list[Candidate]:
    """`keep_all`, and `every_k` for each k that makes a difference, rehearsed on `batch`."""
    stages, tasks = graph.stage_names, list(graph.branches)
    named = {"keep_all": keep_all(stages, tasks)}
    named |= {f"every_k:{k}": every_k(stages, tasks, k) for k in range(1, len(stages) + 1)}
    work = _stage_flops(graph, batch)
    return [
        Candidate(name, schedule, rehearse(graph, schedule, batch.images, batch.targets), _recompute(schedule, work))
        for name, schedule in named.items()
    ]


def choose_schedule(config: Config, graph: Graph, batch: Batch | None) -> Schedule:
    """The schedule that `config.memory` asks for; for a budget, the first that `engine.fit` finds to fit it.

    Args:
        config: the experiment.
        graph: what it trains.
        batch: as `full_batch` makes it, on the graph's device; needed for a budget alone.

    Raises:
        BudgetError: no candidate fits; names the smallest budget that one does.
        ConfigError: the schedule is none, or does not fit the graph.
    """
    if config.memory.budget is not None:
        assert batch is not None, "a budget is fitted to a batch"
        return _fitted(config, graph, batch)
    text = config.memory.schedule or "keep_all"
    try:
        return parse_schedule(text, graph)
    except UbertrainError as error:
        raise ConfigError(f"{config.where('memory', 'schedule')}: memory.schedule: {error}") from error


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


def _fitted(config: Config, graph: Graph, batch: Batch) -> Schedule:
    """The budget of the configuration is the whole device's; what is static comes off before a schedule is fitted."""
    static = static_bytes(graph, config).total
    budget = parse_bytes(str(config.memory.budget))
    precision = autocast_of(config, batch.images.device)
    try:
        with precision:
            return fit(graph, batch.images, batch.targets, budget=max(budget - static, 0))
    except BudgetError as error:
        with precision:
            step = min(candidate.peak_bytes for candidate in candidates(graph, batch))
        raise BudgetError(
            f"{config.where('memory', 'budget')}: a budget of {format_bytes(budget)} is too small: weights, gradients and "
            f"optimizer take {format_bytes(static)}, and a step needs {format_bytes(step)} on top. The smallest feasible "
            f"budget is {static + step} bytes ({format_bytes(static + step)}); a smaller data.batch or data.size needs less"
        ) from error


def _example(config: Config, label: str, readers: Mapping[str, Reader]) -> Sample:
    """The training sample with the fullest `label` among the first, fitted into the input."""
    found: list[Sample] = []
    for reader in readers.values():
        narrow = reader.only([label])
        for index in range(len(reader) if label in reader.kinds else 0):
            try:
                sample = narrow.read(index)
            except DataError:
                continue  # training will meet it, and raise or skip it there
            if label in sample.annotations:
                fit = Warp.fit((sample.image.shape[1], sample.image.shape[2]), config.data.size)
                found.append(warped(sample, fit, reader.kinds))
            if len(found) == _EXAMPLES:
                break
    if not found:
        raise DataError(f"no sample of the training sets {', '.join(readers)} carries the label {label!r}")
    return max(found, key=lambda sample: _fullness(sample.annotations[label]))


def _fullness(label: Any) -> int:
    """How many numbers a label holds: more boxes, more annotators."""
    return sum(leaf.numel() for leaf in pytree.tree_leaves(label) if isinstance(leaf, torch.Tensor))


def _stage_flops(graph: Graph, batch: Batch) -> dict[str, int]:
    """Work of every stage's forward pass on one image."""
    training, value, work = graph.training, batch.images[:1].to(next(graph.parameters()).device), {}
    graph.eval()
    with torch.no_grad():
        for name in graph.stage_names:
            with FlopCounterMode(display=False) as counter:
                value = graph.stage(name)(value)
            work[name] = counter.get_total_flops()
    graph.train(training)
    return work


def _recompute(schedule: Schedule, work: Mapping[str, int]) -> float:
    again = sum(times * work[stage] for stage, times in schedule.recomputed().items())
    return again / max(sum(work.values()), 1)
