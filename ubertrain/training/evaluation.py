"""Scores of a graph, and of answers that never look at the image, over the validation sets."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.data.batch import Batch
from ubertrain.data.loading import evaluation_batches
from ubertrain.data.reader import Reader
from ubertrain.engine.graph import Graph
from ubertrain.metrics.constants import Constant
from ubertrain.metrics.metric import Metric
from ubertrain.task import Task
from ubertrain.training.config import Config
from ubertrain.training.records import Scores

Answer = Callable[[Batch], Mapping[str, Any]]
"""Task -> predictions for the labelled rows of a batch, for every task in its targets."""

CONSTANT_SAMPLES = 256
"""Training samples of a set whose labels the constant answers are fitted to, spread evenly over the set."""


@dataclass
class Evaluation:
    """What an evaluation found.

    Attributes:
        by_set: data set -> task -> scores.
        scores: task -> scores over all sets that carry its label.
        skipped: message -> how often a sample was left out because of it.
    """

    by_set: dict[str, Scores] = field(default_factory=dict)
    scores: Scores = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def evaluate(answer: Answer, tasks: Mapping[str, Task], config: Config, readers: Mapping[str, Reader]) -> Evaluation:
    """Score `answer` on every label of every set in `readers`.

    Raises:
        DataError: a sample cannot be used, unless the configuration says to skip it.
    """
    found, total = Evaluation(), dict[str, Metric]()
    for name, reader in readers.items():
        metrics: dict[str, Metric] = {}
        for batch in batches_of(config, tasks, name, reader):
            found.skipped.update(batch.skipped)
            predictions = answer(batch) if batch.targets else {}
            for task, labels in batch.targets.items():
                metric = metrics.setdefault(task, tasks[task].metric())
                metric.update(predictions[task], labels.value)
        found.by_set[name] = {task: _computed(metrics[task]) for task in tasks if task in metrics}
        for task, metric in metrics.items():
            total.setdefault(task, tasks[task].metric()).merge(metric)
    found.scores = {task: _computed(total[task]) for task in tasks if task in total}
    return found


def answers_of(graph: Graph, tasks: Mapping[str, Task] = {}) -> Answer:
    """The graph's own answers, in eval mode and without gradients; `tasks` may give their heads what stands in the labels."""
    device = next(graph.parameters()).device

    def answer(batch: Batch) -> dict[str, Any]:
        graph.eval()
        with torch.no_grad():
            predictions = graph(batch.images.to(device), batch.targets, _given(tasks, batch, device))
        return {task: _rows(predictions[task], labels.rows) for task, labels in batch.targets.items()}

    return answer


def fit_constants(tasks: Mapping[str, Task], config: Config, readers: Mapping[str, Reader]) -> dict[str, Constant]:
    """Task -> its best constant answer according to the training sets `readers`; tasks without one are left out."""
    constants = {name: constant for name, task in tasks.items() if (constant := task.metric().constant()) is not None}
    for name, reader in readers.items():
        stride = math.ceil(len(reader) / CONSTANT_SAMPLES)
        for batch in batches_of(config, tasks, name, reader, stride=stride):
            for task in batch.targets.keys() & constants.keys():
                constants[task].observe(batch.targets[task].value)
    return constants


def answers_of_constants(constants: Mapping[str, Constant]) -> Answer:
    """The same answer for every image."""

    def answer(batch: Batch) -> dict[str, Any]:
        return {task: constants[task].prediction(labels.value) for task, labels in batch.targets.items()}

    return answer


def batches_of(config: Config, tasks: Mapping[str, Task], name: str, reader: Reader, *, stride: int = 1) -> Iterator[Batch]:
    """Every `stride`-th sample of a set, fitted whole into the network's input."""
    return evaluation_batches(
        reader,
        tasks,
        name=name,
        size=config.data.size,
        batch=config.data.batch,
        workers=config.data.workers,
        on_error=config.data.on_error,
        world=stride,
    )


def _computed(metric: Metric) -> dict[str, float]:
    """The scores, the primary one first."""
    scores = metric.compute()
    return {metric.primary: scores[metric.primary], **scores}


def _given(tasks: Mapping[str, Task], batch: Batch, device: torch.device) -> dict[str, Any]:
    """Task -> what its head is given besides the levels, zeros for the images that are not labelled."""
    count, found = len(batch.images), {}

    def spread(leaf: Tensor, rows: Any) -> Tensor:
        whole = torch.tensor(range(count) if rows is None else rows)
        return leaf.new_zeros(count, *leaf.shape[1:]).index_copy(0, whole, leaf).to(device)

    for task, labels in batch.targets.items():
        if task in tasks and (value := tasks[task].given(labels.value)) is not None:
            found[task] = pytree.tree_map_only(Tensor, partial(spread, rows=labels.rows), value)
    return found


def _rows(prediction: Any, rows: Any) -> Any:
    """The predictions of `rows`, on the CPU, where the labels are."""

    def take(leaf: Tensor) -> Tensor:
        return (leaf if rows is None else leaf[list(rows)]).cpu()

    return pytree.tree_map_only(Tensor, take, prediction)
