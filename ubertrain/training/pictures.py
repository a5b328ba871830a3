"""Pictures of what a graph answers: image | truth | prediction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.picture import Tile, contact_sheet
from ubertrain.annotation.warp import Warp
from ubertrain.data.loading import warped
from ubertrain.data.reader import Reader
from ubertrain.data.sample import Sample
from ubertrain.engine.graph import Graph
from ubertrain.errors import DataError
from ubertrain.task import Task
from ubertrain.training.config import Config
from ubertrain.training.photograph import as_array, draw_on, no_larger

Row = tuple[Tile, Tile, Tile]

_SEARCH = 10
_TILE = 400
"""Largest side of a picture on a sheet."""


def draw_pictures(
    graph: Graph, tasks: Mapping[str, Task], config: Config, readers: Mapping[str, Reader], folder: Path
) -> list[Path]:
    """One sheet per task, `TASK.png`, of `config.pictures` samples of each set; returns the files.

    Samples that carry the task's label are preferred; a set that has none is left out. Unreadable samples are passed over.
    """
    rows: dict[str, list[Row]] = {task: [] for task in tasks}
    for name, reader in readers.items():
        for sample in spread(reader, config.pictures):
            fit = Warp.fit(_size(sample), config.data.size)
            fitted = warped(sample, fit, reader.kinds)
            labelled = [task for task in tasks if tasks[task].label in fitted.annotations]
            predictions = predict_one(graph, fitted.image, given=_given(tasks, labelled, fitted))
            tile = Warp.fit(_size(sample), no_larger(_size(sample), _TILE / max(_size(sample))))
            shown, back = warped(sample, tile, reader.kinds), tile.inverse(_size(sample)).then(fit)
            for task in labelled:
                rows[task].append(_row(f"{name}/{sample.id}", shown, tasks[task], predictions[task], back))
    folder.mkdir(parents=True, exist_ok=True)
    return [save_picture(contact_sheet(sheet), folder / f"{task}.png") for task, sheet in rows.items() if sheet]


def predict_one(
    graph: Graph, image: Tensor, tasks: Sequence[str] | None = None, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Task -> its prediction for one (3, height, width) uint8 image, without the batch dimension, on the CPU.

    `tasks` and `given`, with a row for the one image, are as for the graph.
    """
    device = next(graph.parameters()).device
    graph.eval()
    with torch.no_grad():
        given = pytree.tree_map_only(Tensor, lambda leaf: leaf.to(device), given)
        predictions = graph((image[None].float() / 255).to(device), tasks, given)
    return pytree.tree_map_only(Tensor, lambda leaf: leaf[0].cpu(), predictions)


def draw_label(task: Task, image: np.ndarray, value: Any) -> np.ndarray:
    """The label `value` of one image as the task's kind draws it; boxes and maps with class names if the task has them."""
    names = getattr(task, "names", ())
    if issubclass(task.annotation, Boxes):
        return task.annotation.draw(image, value, names=names)
    if issubclass(task.annotation, ClassMap) and names:
        return task.annotation.draw_named(image, value, names)
    return task.annotation.draw(image, value)


def save_picture(picture: np.ndarray, file: Path) -> Path:
    """Write a (height, width, 3) uint8 picture; returns `file`."""
    Image.fromarray(picture).save(file)
    return file


def _given(tasks: Mapping[str, Task], labelled: Sequence[str], sample: Sample) -> dict[str, Any]:
    """Task -> what its head is given besides the levels, for those of the `labelled` tasks that take something."""
    values = {task: tasks[task].annotation.collate([sample.annotations[tasks[task].label]]) for task in labelled}
    found = {task: tasks[task].given(value) for task, value in values.items()}
    return {task: value for task, value in found.items() if value is not None}


def _row(title: str, shown: Sample, task: Task, prediction: Any, fit: Warp) -> Row:
    """Of a sample without padding; `fit` is how the network saw the image."""
    image = as_array(shown.image)
    truth = draw_label(task, image, shown.annotations[task.label])
    return Tile(title, image), Tile("truth", truth), Tile("prediction", draw_on(shown.image, task, prediction, fit))


def spread(reader: Reader, count: int) -> list[Sample]:
    """Up to `count` samples for each label of the set, spread evenly over it, each sample once; unreadable ones are passed.

    For a label that hardly any sample carries, the search ends after `_SEARCH` samples for each one that is wanted.
    """
    chosen: dict[int, Sample] = {}
    have = dict.fromkeys(reader.kinds, 0)
    stride = max(1, len(reader) // max(count, 1))
    order = [index for start in range(stride) for index in range(start, len(reader), stride)]
    for index in order[: _SEARCH * count * len(have)]:
        if all(number >= count for number in have.values()):
            break
        try:
            sample = reader.read(index)
        except DataError:
            continue
        wanted = [label for label in sample.annotations if have[label] < count]
        if wanted:
            chosen[index] = sample
            for label in sample.annotations:
                have[label] += 1
    return [chosen[index] for index in sorted(chosen)]


def _size(sample: Sample) -> tuple[int, int]:
    return sample.image.shape[1], sample.image.shape[2]
