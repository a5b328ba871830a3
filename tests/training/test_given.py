"""Heads that are given what stands in the labels: Fast R-CNN and its proposals, from files to scores."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.rooms import room_config, write_config, write_rooms
from ubertrain.annotation.proposed_boxes import ProposedBoxes
from ubertrain.errors import ConfigError
from ubertrain.training.build import Model, make_model, make_readers, prepare
from ubertrain.training.config import load
from ubertrain.training.evaluation import answers_of, evaluate
from ubertrain.training.pictures import draw_pictures

BOXES = {"taps": ["res3", "res4"], "channels": 8, "width": 16, "proposals": 8, "proposer": "given", "min_score": 0.0}


def model_of(tmp_path: Path, proposals: bool = True) -> tuple[Model, Any]:
    """A detector on rooms of which every other image carries boxes, with proposals or without; and its validation sets."""
    root = write_rooms(tmp_path / "data", parts=(("boxes", "depth"), ("depth",)))
    (root / "proposals").mkdir()
    for index in range(0, 8, 2):
        (root / f"proposals/room{index}.txt").write_text(f"{index} 4 {index + 20} 30\n20 10 60 40\n")
    rooms: Any = {"type": "folder", "root": str(root), "classes": {"boxes": ["box"]}, "labels": ["boxes", "depth"]}
    if proposals:
        rooms = {"type": "with_proposals", "of": rooms, "proposals": str(root / "proposals")}
    data = {"size": [48, 64], "batch": 4, "train": {"rooms": rooms}, "val": {"rooms": rooms}}
    tasks = {"boxes": BOXES, "depth": {"taps": ["res2"], "width": 8}}
    config = load(write_config(tmp_path, root, {**room_config(root), "data": data, "tasks": tasks}))
    prepare(config)
    sets = make_readers(config, "val")
    return make_model(config, make_readers(config, "train"), sets), sets


def watch(model: Model) -> list[Tensor | None]:
    """What the detector's head is given from now on."""
    given: list[Tensor | None] = []

    def note(head: nn.Module, arguments: tuple[Any, ...]) -> None:
        given.append(arguments[1] if len(arguments) > 1 else None)

    model.graph.heads["boxes"].register_forward_pre_hook(note)
    return given


def test_scores_are_those_of_the_given_proposals(tmp_path: Path) -> None:
    """Every image's head gets the proposals of that image, and images without the label get none."""
    model, sets = model_of(tmp_path)
    given = watch(model)
    found = evaluate(answers_of(model.graph, model.tasks), model.tasks, model.config, sets)
    assert set(found.scores) == {"boxes", "depth"}
    rows = torch.cat([part for part in given if part is not None])
    expected = [[[i, 4, i + 20, 30], [20, 10, 60, 40]] if i % 2 == 0 else [[0] * 4] * 2 for i in range(8)]
    assert rows.tolist() == expected


def test_pictures_are_of_the_given_proposals(tmp_path: Path) -> None:
    """So are the pictures of a run."""
    model, sets = model_of(tmp_path)
    given = watch(model)
    draw_pictures(model.graph, model.tasks, model.config, sets, tmp_path / "pictures")
    assert [None if part is None else part[0, 0, 0].item() for part in given][0] == 0
    assert (tmp_path / "pictures/boxes.png").exists()


def test_without_the_tasks_heads_are_given_nothing(tmp_path: Path) -> None:
    """As on new images."""
    model, sets = model_of(tmp_path)
    given = watch(model)
    evaluate(answers_of(model.graph), model.tasks, model.config, sets)
    assert set(given) == {None}


def test_a_data_set_without_proposals_is_refused(tmp_path: Path) -> None:
    """The message says what kind of label the task needs."""
    with pytest.raises(ConfigError, match=f"'boxes' .* is Boxes, but task 'boxes' needs {ProposedBoxes.__name__}"):
        model_of(tmp_path, proposals=False)
