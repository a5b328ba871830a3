"""Relative paths of a configuration, read again from elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from tests.rooms import room_config, write_config, write_rooms
from ubertrain.training.codebook import write_codebook
from ubertrain.training.config import load
from ubertrain.training.judge import Judge
from ubertrain.training.loaded import load_run
from ubertrain.training.paths import make_absolute
from ubertrain.training.run import run
from ubertrain.training.run_folder import RunFolder

_OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with a file and a folder, where ~ is home."""
    (tmp_path / "home").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "words.npy").touch()
    (tmp_path / "home" / "words.npy").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLACE", "there")


def test_paths_of_all_parts_become_absolute(tmp_path: Path) -> None:
    """Of the trunk, of tasks and of data sets, also of a set within another; what they begin with is filled in."""
    values = {
        "trunk": {"name": "vgg16", "weights": "words.npy"},
        "tasks": {"normals": {"codebook": "~/words.npy"}},
        "data": {
            "train": {"rooms": {"type": "with_proposals", "of": {"type": "folder", "root": "there/.."}, "proposals": "$PLACE"}},
            "val": {"rooms": {"type": "folder", "root": str(tmp_path / "there")}},
        },
    }
    make_absolute(values)
    here = str(tmp_path)
    assert values == {
        "trunk": {"name": "vgg16", "weights": f"{here}/words.npy"},
        "tasks": {"normals": {"codebook": f"{here}/home/words.npy"}},
        "data": {
            "train": {
                "rooms": {"type": "with_proposals", "of": {"type": "folder", "root": here}, "proposals": f"{here}/there"}
            },
            "val": {"rooms": {"type": "folder", "root": f"{here}/there"}},
        },
    }


@pytest.mark.parametrize(
    "values",
    [
        {"trunk": {"weights": "imagenet"}},
        {"trunk": {"weights": "there"}},  # a folder called so is no file of weights
        {"tasks": {"normals": {"codebook": "missing.npy"}}},
        {"data": {"train": {"rooms": {"root": "missing", "split": "there", "name": "words.npy"}}}},
        {"trunk": "vgg16", "tasks": ["normals"], "data": {"train": {"rooms": "there"}, "val": None}},
    ],
)
def test_what_is_no_path_of_something_stays(values: dict[str, object]) -> None:
    """Names, what is missing (its message comes later), and what is no configuration at all."""
    before = repr(values)
    make_absolute(values)
    assert repr(values) == before


def test_a_run_goes_on_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the configuration it wrote, relative as the user's was: to be evaluated, and resumed."""
    write_rooms(tmp_path / "rooms", parts=[("class_map", "normals")])
    write_codebook(_OCTAHEDRON, tmp_path / "words.npy")
    relative = Path("rooms")
    wanted = room_config(relative)["tasks"]
    assert isinstance(wanted, dict)
    normals = {**wanted["normals"], "coding": "triangular", "codebook": "words.npy"}
    file = write_config(tmp_path, relative, {"tasks": {"normals": normals, "segmentation": wanted["segmentation"]}, "steps": 2})
    report = run(load(file), RunFolder(tmp_path / "run"))
    monkeypatch.chdir(tmp_path / "there")
    loaded = load_run(tmp_path / "run")
    scores = Judge(loaded.model, loaded.sets("val")).scores()
    assert {task: found[result.metric] for task, result in report.results.items() for found in [scores[task]]} == {
        task: result.after for task, result in report.results.items()
    }
    resumed = run(load(tmp_path / "run" / "config.yaml", ["steps=3"]), RunFolder(tmp_path / "run"), resume=True)
    assert resumed.steps == 3
