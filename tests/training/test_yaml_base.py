"""A configuration on top of another."""

from pathlib import Path
from typing import Any

import pytest

from ubertrain.errors import ConfigError
from ubertrain.training.yaml_file import Origin, read_yaml

BASE = """\
steps: 10
trunk: {name: resnet18, width: 0.5}
tasks:
  depth: {weight: 2, width: 16}
  normals: {width: 16}
data:
  size: [64, 96]
  train:
    rooms: {type: scenes, images: 8}
    photos: {type: folder, root: photos}
"""


def read(folder: Path, text: str, *overrides: str, base: str = BASE) -> tuple[dict[str, Any], Origin]:
    """The file `single/own.yaml` of this text, beside a folder with `base.yaml`."""
    (folder / "single").mkdir(exist_ok=True)
    (folder / "base.yaml").write_text(base)
    file = folder / "single" / "own.yaml"
    file.write_text(text)
    return read_yaml(file, overrides)


def complaint(folder: Path, text: str, base: str = BASE) -> str:
    """What reading says is wrong."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text, base=base)
    return str(caught.value).replace(f"{folder}/", "")


def test_a_base_alone_is_the_base(tmp_path: Path) -> None:
    """Nothing added, nothing lost, and `base` is no key of the result."""
    values, _ = read(tmp_path, "base: ../base.yaml")
    assert values == read_yaml(tmp_path / "base.yaml")[0]


def test_mappings_are_joined_and_the_rest_is_replaced(tmp_path: Path) -> None:
    """Numbers and lists are replaced as a whole; keys that are not mentioned stay."""
    values, _ = read(tmp_path, "base: ../base.yaml\nsteps: 7\ntasks: {depth: {weight: 1}}\ndata: {size: [32, 32]}\nseed: 3\n")
    assert (values["steps"], values["seed"], values["data"]["size"]) == (7, 3, [32, 32])
    assert values["tasks"] == {"depth": {"weight": 1, "width": 16}, "normals": {"width": 16}}
    assert set(values["data"]["train"]) == {"rooms", "photos"}


def test_only_says_what_stays(tmp_path: Path) -> None:
    """Of the mappings it names; then the file's own keys are laid over."""
    text = "base: ../base.yaml\nonly: {tasks: [depth], data: {train: [rooms]}}\ndata: {train: {rooms: {images: 4}}}\n"
    values, _ = read(tmp_path, text)
    assert values["tasks"] == {"depth": {"weight": 2, "width": 16}}
    assert values["data"] == {"size": [64, 96], "train": {"rooms": {"type": "scenes", "images": 4}}}
    assert values["steps"] == 10


def test_every_value_knows_its_file(tmp_path: Path) -> None:
    """What was replaced stands in the new file, the rest in the base, and `--set` has the last word."""
    _, origin = read(tmp_path, "base: ../base.yaml\nonly: {tasks: [depth]}\nsteps: 7\n", "tasks.depth.weight=5")
    single, base = f"{tmp_path}/single/own.yaml", f"{tmp_path}/base.yaml"
    assert origin.where("steps") == f"{single}:3"
    assert origin.where("tasks", "depth", "width") == f"{base}:4"
    assert origin.where("tasks", "depth", "weight") == "--set tasks.depth.weight=5"
    assert origin.where("tasks", "normals", "width") == f"{base}:3"


def test_a_base_may_have_a_base(tmp_path: Path) -> None:
    """Each path is beside the file that names it."""
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "middle.yaml").write_text("base: base.yaml\nsteps: 20\nseed: 1\n")
    values, _ = read(tmp_path, "base: ../middle.yaml\nseed: 2\n")
    assert (values["steps"], values["seed"], values["trunk"]["name"]) == (20, 2, "resnet18")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 1\nonly: {tasks: [depth]}", "single/own.yaml:2: only says what stays of a base; name one"),
        ("base: ../bass.yaml", "single/own.yaml:1: base: there is no file bass.yaml"),
        ("base: [a, b]", "single/own.yaml:1: base must be the path of another configuration, got ['a', 'b']"),
        ("base: own.yaml", "single/own.yaml:1: base: own.yaml leads back to this file"),
        (
            "base: ../base.yaml\nonly: {tasks: [depht]}",
            "own.yaml:2: only.tasks names 'depht'; did you mean 'depth'?",
        ),
        ("base: ../base.yaml\nonly: {data: {val: [a]}}", "only.data names 'val'; the base has size, train"),
        ("base: ../base.yaml\nonly: {tasks: [[depth]]}", "only.tasks names ['depth']; did you mean 'depth'?"),
        ("base: ../base.yaml\nonly: [{depth: 1}]", "only names {'depth': 1}; the base has steps, trunk, tasks, data"),
        ("base: ../base.yaml\nonly: {steps: [a]}", "only.steps: the base has no keys there, but 10"),
        (
            "base: ../base.yaml\nonly: {tasks: depth}",
            "only.tasks must be a list of keys or go deeper",
        ),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    """A base that is not there or leads in a circle, and an `only` that fits nothing."""
    assert message in complaint(tmp_path, text)


def test_a_circle_of_two_is_found(tmp_path: Path) -> None:
    """The message names the file that closes it."""
    assert "base.yaml:1: base: single/own.yaml leads back to this file" in complaint(
        tmp_path, "base: ../base.yaml", base="base: single/own.yaml"
    )


def test_a_mistake_in_the_base_names_the_base(tmp_path: Path) -> None:
    """With its line there."""
    assert "base.yaml:2: the key 'steps' stands 2 times" in complaint(
        tmp_path, "base: ../base.yaml", base="seed: 1\nsteps: 1\nsteps: 2\n"
    )
