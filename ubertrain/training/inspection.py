"""A look at the data of a configuration before it is trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ubertrain.annotation.picture import Tile, contact_sheet
from ubertrain.annotation.warp import Warp
from ubertrain.data.inventory import count
from ubertrain.data.loading import warped
from ubertrain.data.reader import Reader
from ubertrain.data.sample import Sample
from ubertrain.task import Task
from ubertrain.training.build import fill_classes, make_readers, make_tasks
from ubertrain.training.config import Config, SetConfig
from ubertrain.training.photograph import as_array
from ubertrain.training.pictures import draw_label, save_picture, spread


@dataclass(frozen=True)
class SetCounts:
    """What one data set holds.

    Attributes:
        name: "train.NAME" or "val.NAME".
        images: that could be read.
        labelled: task -> images that carry its label; a task whose label the set does not know is absent.
        unlabelled: ids of images without any label.
        faults: one message per sample that could not be read.
    """

    name: str
    images: int
    labelled: Mapping[str, int]
    unlabelled: tuple[str, ...]
    faults: tuple[str, ...]


def inspect(config: Config) -> list[SetCounts]:
    """Read every sample of every set."""
    sets, tasks = _sets(config), _tasks(config)
    return [_counts(name, reader, tasks) for name, reader in sets.items()]


def draw_samples(config: Config, folder: Path) -> list[Path]:
    """One sheet per set, `PART.NAME.png`: a few samples, warped as in training, each with its labels for all tasks."""
    tasks, settings = _tasks(config), {f"train.{name}": item for name, item in config.data.train.items()}
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, reader in _sets(config).items():
        carried = {task: made for task, made in tasks.items() if made.label in reader.kinds}
        rows = [
            _row(_varied(sample, index, settings.get(name), config, reader), carried)
            for index, sample in enumerate(spread(reader, config.pictures))
        ]
        if rows:
            files.append(save_picture(contact_sheet(rows), folder / f"{name}.png"))
    return files


def _sets(config: Config) -> dict[str, Reader]:
    parts = {"train": make_readers(config, "train"), "val": make_readers(config, "val")}
    return {f"{part}.{name}": reader for part, readers in parts.items() for name, reader in readers.items()}


def _tasks(config: Config) -> dict[str, Task]:
    return make_tasks(fill_classes(config, _sets(config)))


def _counts(name: str, reader: Reader, tasks: Mapping[str, Task]) -> SetCounts:
    found = count(reader, tasks)
    labelled = {task: found.labels[tasks[task].label] for task in tasks if tasks[task].label in found.labels}
    return SetCounts(name, found.images, labelled, found.unlabelled, found.faults)


def _varied(sample: Sample, index: int, settings: SetConfig | None, config: Config, reader: Reader) -> Sample:
    source = (sample.image.shape[1], sample.image.shape[2])
    if settings is None or settings.warp is None:
        return warped(sample, Warp.fit(source, config.data.size), reader.kinds)
    generator = torch.Generator().manual_seed(config.seed + index)
    return warped(sample, settings.warp.draw(source, config.data.size, generator), reader.kinds)


def _row(sample: Sample, tasks: Mapping[str, Task]) -> list[Tile]:
    image = as_array(sample.image)
    tiles = [
        Tile(name, draw_label(task, image, sample.annotations[task.label]) if task.label in sample.annotations else None)
        for name, task in tasks.items()
    ]
    return [Tile(sample.id, image), *tiles]
