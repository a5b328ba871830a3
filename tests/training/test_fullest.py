"""The batch that stands for all when memory is planned."""

from pathlib import Path
from typing import Any

import pytest

from tests.rooms import write_rooms
from tests.training.rooms_model import made, readers_of
from ubertrain.data.sample import Sample
from ubertrain.data.scenes import Scenes
from ubertrain.errors import DataError
from ubertrain.training.fullest import full_batch


def test_the_fullest_batch_labels_every_image_for_every_task(tmp_path: Path) -> None:
    """Although no image on the disk has all labels, each row of the batch does."""
    model, batch = made(tmp_path)
    assert batch.images.shape == (4, 3, 48, 64)
    assert {task: labels.positions(4, task) for task, labels in batch.targets.items()} == dict.fromkeys(
        model.tasks, [0, 1, 2, 3]
    )


def test_a_label_that_no_sample_carries_is_an_error(tmp_path: Path) -> None:
    """A task that would never be trained is named by its label."""
    write_rooms(tmp_path / "data", parts=(("boxes", "class_map", "depth", "normals"),))
    with pytest.raises(DataError, match="no sample of the training sets rooms carries the label 'edges'"):
        made(tmp_path)


def test_a_label_is_the_fullest_of_its_kind(tmp_path: Path) -> None:
    """The boxes of the batch that stands for all are those of the image with most of them."""
    model, _ = made(tmp_path, "tasks={boxes: {taps: [res3], width: 8, channels: 8}}")
    rooms = Scenes(images=6, size=(48, 64), keep="boxes")
    counts = [len(rooms.read(index).annotations["boxes"]["boxes"]) for index in range(len(rooms))]
    batch = full_batch(model.config, model.tasks, {"rooms": rooms})
    assert batch.targets["boxes"].value["boxes"].shape[1] == max(counts) > counts[0]


def test_a_sample_is_read_once_for_all_its_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The eight rooms, each with several labels, are read eight times."""
    model, _ = made(tmp_path)
    (rooms,) = readers_of(model.config).values()
    read: list[int] = []
    whole = type(rooms).read

    def counted(self: Any, index: int) -> Sample:
        read.append(index)
        return whole(self, index)

    monkeypatch.setattr(type(rooms), "read", counted)
    full_batch(model.config, model.tasks, {"rooms": rooms})
    assert read == list(range(8))
