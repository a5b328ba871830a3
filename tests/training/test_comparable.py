"""What makes the scores of two runs incomparable."""

from pathlib import Path

import pytest
import yaml

from tests.runs import write_run
from ubertrain.errors import ConfigError
from ubertrain.training.comparable import differences, expect_same_classes
from ubertrain.training.config import load
from ubertrain.training.delta_m import delta_m
from ubertrain.training.finished import FinishedRun, read_finished
from ubertrain.training.report import TaskResult

TASKS = ("segmentation", "depth")
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def same_root(tmp_path: Path) -> tuple[str, str]:
    """Overrides by which both sets lie in one folder."""
    return (f"data.val.rooms.root={tmp_path}", f"data.train.rooms.root={tmp_path}")


def told(folder: Path, ours: tuple[str, ...], theirs: tuple[str, ...]) -> list[str]:
    """What differs between two runs, without the folder."""
    scores = dict.fromkeys(TASKS, 0.5)
    paths = [write_run(folder / name / "run", scores, *given) for name, given in (("a", ours), ("b", theirs))]
    return [line.replace(f"{folder}/", "") for line in differences(*map(read_finished, paths), TASKS)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ((), ()),
        (("data.val.rooms.weight=3", "data.val.rooms.warp={flip: 0.5}"), ()),
        (("data.val.rooms.take=':'", "tasks.depth.crop=none", "tasks.depth.type=depth"), ()),
        (("data.val.rooms.labels=[depth, class_map]",), ("data.val.rooms.labels=[class_map]",)),
        (("tasks.depth.width=32", "data.train.rooms.take='::2'", "steps=9", "data.batch=2"), ()),
    ],
)
def test_what_does_not_change_the_samples_is_accepted(
    tmp_path: Path, same_root: tuple[str, str], ours: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    """Keys of training, defaults that are spelled out, other labels of the same images, the width of a head."""
    assert told(tmp_path, (*same_root, *ours), (*same_root, *theirs)) == []


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ("data.val.rooms.root=elsewhere", "the validation set rooms is not the same: data.val.rooms.root is '"),
        ("data.val.rooms.take='::2'", "data.val.rooms.take is left out in a/run/config.yaml:"),
        ("data.val.rooms.type=voc", "data.val.rooms.type is 'folder' in a/run/config.yaml:"),
        ("data.val.rooms.depth_scale=500", "data.val.rooms.depth_scale is left out in a/run/config.yaml:"),
        ("tasks.depth.valid=[0.001, 80]", "depth is not judged alike: tasks.depth.valid is left out in a/run/config.yaml:"),
        ("tasks.segmentation.absent=zero", "segmentation is not judged alike: tasks.segmentation.absent is left out in"),
        ("tasks.depth.key=sparse", "depth is not judged alike: tasks.depth.key is left out in a/run/config.yaml:"),
        ("tasks.depth.type=some.package:Depth", "tasks.depth.type is 'depth' in a/run/config.yaml:"),
    ],
)
def test_the_first_difference_is_named(tmp_path: Path, same_root: tuple[str, str], theirs: str, message: str) -> None:
    """By its key, its values, and where both stand."""
    (found,) = told(tmp_path, same_root, (*same_root, theirs))
    assert message in found
    assert ", but " in found and "b/run/config.yaml:" in found


def test_labels_count_where_ranges_do(tmp_path: Path, same_root: tuple[str, str]) -> None:
    """Every second image with a label is another one than every second image."""
    cut = (*same_root, "data.val.rooms.take='::2'")
    (found,) = told(tmp_path, cut, (*cut, "data.val.rooms.labels=[depth]"))
    assert "data.val.rooms.labels is left out in a/run/config.yaml:" in found


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ("[wall, box, floor]", "has 2 classes in .*a/run/config.yaml:[0-9]+, but 3 classes in .*b/run/config.yaml:"),
        (
            "[wall, floor]",
            r"has class 1 as 'box' in .*, but class 1 as 'floor' in .* \(tasks.segmentation.classes\); scores of",
        ),
        ("3", "has 2 classes in .* but 3 classes in"),
    ],
)
def test_scores_of_other_classes_are_refused(tmp_path: Path, theirs: str, message: str) -> None:
    """With the first class that differs."""
    classes = ("tasks.segmentation.classes=[wall, box]", f"tasks.segmentation.classes={theirs}")
    first, other = (
        read_finished(write_run(tmp_path / name / "run", {"segmentation": 0.5}, given))
        for name, given in zip("ab", classes, strict=True)
    )
    with pytest.raises(ConfigError, match=f"task 'segmentation' {message}"):
        delta_m([first], [other])
    expect_same_classes("segmentation", first, first)


def _finished(path: Path, folder: Path) -> FinishedRun:
    """A run of the configuration `path` as one that has ended; each of its tasks is scored on every set."""
    config = load(path)
    run = folder / path.stem / "config.yaml"
    run.parent.mkdir()
    run.write_text(config.dump())
    result = TaskResult("score", True, 0.1, 0.5, 0.2)
    return FinishedRun(
        run.parent, load(run), dict.fromkeys(config.tasks, result), dict.fromkeys(config.tasks, tuple(config.data.val))
    )


@pytest.mark.parametrize("single", sorted(path.name for path in (CONFIGS / "single").glob("*.yaml")))
def test_the_single_runs_of_the_mixed_one_are_accepted(tmp_path: Path, single: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand on it, and read less of the same images."""
    monkeypatch.setenv("UBERTRAIN_DATA", str(tmp_path))
    mixed, alone = _finished(CONFIGS / "real_mixed.yaml", tmp_path), _finished(CONFIGS / "single" / single, tmp_path)
    (task,) = alone.results
    assert differences(mixed, alone, [task]) == []
    changed = yaml.safe_load((alone.path / "config.yaml").read_text())
    next(iter(changed["data"]["val"].values()))["root"] = "elsewhere"
    (alone.path / "config.yaml").write_text(yaml.safe_dump(changed))
    other = FinishedRun(alone.path, load(alone.path / "config.yaml"), alone.results, alone.scored_on)
    assert len(differences(mixed, other, [task])) == 1
