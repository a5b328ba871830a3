"""From configurations to graphs."""

from pathlib import Path

import pytest
import torch

from tests.rooms import write_config, write_rooms
from ubertrain.errors import ConfigError
from ubertrain.training.build import Model, make_model, make_readers
from ubertrain.training.config import load


def built(folder: Path, *overrides: str) -> Model:
    """The model of the room experiment with `overrides`."""
    config = load(write_config(folder, write_rooms(folder / "data")), overrides)
    return make_model(config, make_readers(config, "train"), make_readers(config, "val"))


def complaint(folder: Path, *overrides: str) -> str:
    """What building says is wrong."""
    with pytest.raises(ConfigError) as caught:
        built(folder, *overrides)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_graph_has_every_task_on_its_taps(tmp_path: Path) -> None:
    """Each task of the configuration is a branch with its weight and the trunk stages behind its taps."""
    graph = built(tmp_path, "tasks.depth.weight=0.5").graph
    assert list(graph.branches) == ["boxes", "segmentation", "depth", "normals", "boundaries"]
    assert graph.branches["depth"].weight == 0.5
    assert graph.taps["depth"] == ("res2", "res3")


def test_classes_come_from_the_data_sets(tmp_path: Path) -> None:
    """A task that was given no classes has those of the sets that label it, also in the configuration that is saved."""
    model = built(tmp_path)
    assert model.config.tasks["segmentation"].keywords["classes"] == ["wall", "box"]
    assert model.config.tasks["boxes"].keywords["classes"] == ["box"]
    assert model.tasks["segmentation"].names == ("wall", "box")


@pytest.mark.parametrize("classes", ["2", "[wall, box]"])
def test_given_classes_may_agree(tmp_path: Path, classes: str) -> None:
    """The right number or the right names are accepted."""
    assert len(built(tmp_path, f"tasks.segmentation.classes={classes}").tasks["segmentation"].names) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "tasks.segmentation.classes=3",
            "(tasks.segmentation): classes is 3, but the data sets that label it have 2: wall, box",
        ),
        ("tasks.segmentation.classes=[box, wall]", "classes is ['box', 'wall'], but the data sets that label it have 2"),
        ("tasks.deph={}", "unknown task 'deph'"),
        ("tasks.deph={}", "did you mean 'depth'?"),
        ("tasks.depth.widht=8", "unknown key 'widht' for task 'depth' in --set tasks.depth.widht=8 (tasks.depth)"),
        (
            "tasks.depth.taps=[res3, res6]",
            "(tasks.depth): unknown tap 'res6'; did you mean 'res5'? known: res2, res3, res4, res5",
        ),
        ("tasks.segmentation.head=fcn32", "(tasks.segmentation): head 'fcn32' reads 1 levels; given are"),
        ("trunk.name=resnet81", "unknown trunk 'resnet81'"),
        (
            "trunk.widht=1",
            "unknown key 'widht' for trunk 'tests.rooms:TinyTrunk' in --set trunk.widht=1 (trunk); did you mean 'width'?",
        ),
        ("data.train.rooms.type=foldr", "unknown data set 'foldr'"),
        ("data.train.rooms.labels=[depth]", "no data set carries 'boxes', which task 'boxes' needs"),
        ("device=cuda", "--set device=cuda: device is cuda, but torch finds no GPU"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, override: str, message: str) -> None:
    """Unknown names and keys, and tasks that no set labels, are named with their place and what would be right."""
    if override == "device=cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert message in complaint(tmp_path, override)


def test_validation_sets_number_classes_alike(tmp_path: Path) -> None:
    """A validation set with its classes in another order is refused, for its scores would mean nothing."""
    message = complaint(tmp_path, "data.val.rooms.classes.class_map=[box, wall]")
    assert "'class_map' has 2 classes (wall, box) in data set 'train.rooms' and 2 classes (box, wall)" in message


def test_a_label_may_have_another_name(tmp_path: Path) -> None:
    """`key` names the label a task reads, so that two tasks may share a kind."""
    model = built(tmp_path, "tasks.things={type: segmentation, key: class_map, taps: [res3], width: 8}")
    assert model.tasks["things"].label == "class_map"
    assert model.tasks["things"].names == ("wall", "box")
