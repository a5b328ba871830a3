"""The room experiment's model and the batch that its memory is planned for."""

from collections.abc import Mapping
from pathlib import Path

from tests.rooms import write_config, write_rooms
from ubertrain.data.batch import Batch
from ubertrain.data.reader import Reader
from ubertrain.training.build import Model, make_model, make_readers, prepare
from ubertrain.training.config import Config, load
from ubertrain.training.fullest import full_batch

DENSE = (
    "tasks={segmentation: {taps: [res3], width: 8}, depth: {taps: [res3, res4], width: 8}, normals: {taps: [res5], width: 8}}"
)
"""Three tasks that cost little to measure, as an override; the branch on res5 may run late."""


def config_of(folder: Path, *overrides: str) -> Config:
    """The room experiment with `overrides`; FLOPs are what its schedules save, which no clock can change."""
    root = folder / "data"
    return load(write_config(folder, root if root.exists() else write_rooms(root)), ("memory.cost=flops", *overrides))


def readers_of(config: Config) -> Mapping[str, Reader]:
    """Its training sets."""
    return make_readers(config, "train")


def made(folder: Path, *overrides: str) -> tuple[Model, Batch]:
    """Its model and its fullest batch."""
    config = config_of(folder, *overrides)
    prepare(config)
    readers = readers_of(config)
    model = make_model(config, readers)
    return model, full_batch(model.config, model.tasks, readers)
