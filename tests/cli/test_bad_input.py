"""Every mistake that a user can make ends in a message that names the place and says what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.rooms import write_config, write_rooms

Command = Callable[..., Any]
SMALL = {"taps": ["res2"], "width": 8}
DENSE = (("class_map",), ("depth",), ("class_map", "depth"))
TASKS = {"segmentation": dict(SMALL), "depth": dict(SMALL)}


def cut(file: Path) -> None:
    """Leave the first half of a file."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def write_boxes(root: Path, *corners: list[float], kind: object = "box") -> None:
    """Label room0 with these boxes."""
    (root / "boxes" / "room0.json").write_text(json.dumps({"boxes": corners, "classes": [kind] * len(corners)}))


def corrupt_image(root: Path) -> None:
    """An image file that ends too early."""
    cut(root / "images" / "room0.png")


def box_outside(root: Path) -> None:
    """A box beyond the right border of the 64 pixels."""
    write_boxes(root, [10, 10, 90, 30])


def box_inside_out(root: Path) -> None:
    """A box of negative width."""
    write_boxes(root, [30, 10, 20, 30])


def box_of_unknown_class(root: Path) -> None:
    """A class id that the set does not declare."""
    write_boxes(root, [10, 10, 20, 30], kind=7)


def class_out_of_range(root: Path) -> None:
    """A pixel class that the set does not declare."""
    Image.fromarray(np.full((48, 64), 9, np.uint8)).save(root / "class_map" / "room0.png")


def label_of_another_size(root: Path) -> None:
    """A class map of half the size of its image."""
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(root / "class_map" / "room0.png")


def nan_depth(root: Path) -> None:
    """A depth map with a hole of nan."""
    np.save(root / "depth" / "room0.npy", np.full((48, 64), np.nan, np.float32))


def no_label(root: Path) -> None:
    """An image that nobody has labelled."""
    for file in root.glob("*/room0.*"):
        if file.parent.name != "images":
            file.unlink()


FAULTS = [
    (corrupt_image, "depth", "images/room0.png"),
    (box_outside, "boxes", "boxes/room0.json: box 0 of 1 (10 10 90 30) is outside the image, which is 64 wide and 48 high"),
    (box_inside_out, "boxes", "boxes/room0.json: box 0 of 1 (30 10 20 30) is not x0 y0 x1 y1 with x1 > x0"),
    (box_of_unknown_class, "boxes", "boxes/room0.json: class id 7, but the set declares 1 classes"),
    (class_out_of_range, "segmentation", "class_map/room0.png: class id 9, but the set declares 2 classes"),
    (label_of_another_size, "segmentation", "class_map/room0.png"),
    (nan_depth, "depth", "depth/room0.npy"),
    (no_label, "depth", "sample 'room0'"),
]


def broken_rooms(folder: Path, fault: Callable[[Path], None], task: str) -> Path:
    """An experiment on one task whose first training image is broken; validation is sound."""
    label = {"boxes": "boxes", "segmentation": "class_map", "depth": "depth"}[task]
    sound = write_rooms(folder / "sound", 2, parts=[[label]])
    root = write_rooms(folder / "data", 4, parts=[[label]])
    fault(root)
    boxes = {"taps": ["res3"], "channels": 8, "width": 16, "candidates": 32, "proposals": 8}
    config = write_config(folder, root, {"tasks": {task: boxes if task == "boxes" else SMALL}, "steps": 2})
    text = config.read_text().replace(str(root), str(sound))
    config.write_text(text.replace(str(sound), str(root), 1))
    return config


@pytest.mark.parametrize(("fault", "task", "message"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_a_broken_sample_stops_the_run_with_its_file(
    ubertrain: Command, tmp_path: Path, fault: Callable[[Path], None], task: str, message: str
) -> None:
    """By default an unusable sample is an error that names set, sample and file, and how to leave it out."""
    outcome = ubertrain("train", broken_rooms(tmp_path, fault, task), "--run", tmp_path / "run")
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert message in outcome.err.replace("\n", " ")
    assert "data set 'rooms'" in outcome.err
    assert "on_error: skip" in outcome.err or "leaves such samples out" in outcome.err


@pytest.mark.parametrize(("fault", "task", "message"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_a_broken_sample_can_be_skipped(
    ubertrain: Command, tmp_path: Path, fault: Callable[[Path], None], task: str, message: str
) -> None:
    """With `on_error: skip` the run goes on without the sample, counts it, and names it again at the end."""
    config = broken_rooms(tmp_path, fault, task)
    outcome = ubertrain("train", config, "--run", tmp_path / "run", "--set", "data.on_error=skip", "--json")
    assert outcome.code == 0, outcome.err
    ((skipped, times),) = outcome.json["skipped"].items()
    assert message in skipped
    assert times == 2, "each of the two steps draws every image once"
    assert outcome.json["steps"] == 2


@pytest.mark.parametrize(
    ("task", "fault"), [("boxes", box_of_unknown_class), ("segmentation", class_out_of_range)], ids=["boxes", "class map"]
)
def test_a_class_that_only_the_task_rules_out_is_named(
    ubertrain: Command, tmp_path: Path, task: str, fault: Callable[[Path], None]
) -> None:
    """Where a set does not say its classes, the task's number of them counts, in training as in `ubertrain data`."""
    label = "boxes" if task == "boxes" else "class_map"
    root = write_rooms(tmp_path / "data", 2, parts=[[label]])
    fault(root)
    (root / "boxes" / "room1.json").write_text('{"boxes": [], "classes": []}')
    sets = {"size": [48, 64], "batch": 2, "train": {"rooms": {"type": "folder", "root": str(root)}}}
    small = {"taps": ["res2"], **({"channels": 8, "candidates": 32} if task == "boxes" else {"width": 8})}
    config = write_config(tmp_path, root, {"tasks": {task: {"classes": 2, **small}}, "data": sets})
    for command in (("train", config, "--run", tmp_path / "run"), ("data", config)):
        outcome = ubertrain(*command)
        assert outcome.code == 2
        assert "sample 'room0'" in outcome.err
        assert f"but task {task!r} has 2 classes (0 to 1)" in outcome.err.replace("\n", " ")


def test_data_names_every_broken_file(ubertrain: Command, tmp_path: Path) -> None:
    """`ubertrain data` finds all faults at once and fails, unless they are to be skipped."""
    config = broken_rooms(tmp_path, corrupt_image, "depth")
    nan_depth(tmp_path / "sound")
    outcome = ubertrain("data", config)
    assert outcome.code == 2
    assert "data/images/room0.png" in outcome.err.replace("\n", "")
    assert "sound/depth/room0.npy" in outcome.err.replace("\n", "")
    assert ubertrain("data", config, "--set", "data.on_error=skip").code == 0


def test_a_truncated_mat_is_named(ubertrain: Command, tmp_path: Path) -> None:
    """A damaged annotation of BSDS500 is named with its file."""
    pytest.importorskip("scipy")
    images, truth = tmp_path / "data" / "images" / "train", tmp_path / "data" / "groundTruth" / "train"
    images.mkdir(parents=True)
    truth.mkdir(parents=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(images / "1000.jpg")
    (truth / "1000.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    sets = {"size": [48, 64], "batch": 1, "train": {"berkeley": {"type": "bsds500", "root": str(tmp_path)}}}
    config = write_config(tmp_path, tmp_path, {"tasks": {"boundaries": SMALL}, "data": sets})
    outcome = ubertrain("train", config, "--run", tmp_path / "run")
    assert outcome.code == 2
    assert "data set 'berkeley'" in outcome.err
    assert "groundTruth/train/1000.mat" in outcome.err.replace("\n", "")


def test_an_empty_set_is_an_error(ubertrain: Command, tmp_path: Path) -> None:
    """A set without images is named with its folder and its key."""
    write_rooms(tmp_path / "data", 0)
    outcome = ubertrain("train", write_config(tmp_path, tmp_path / "data"), "--run", tmp_path / "run")
    assert outcome.code == 2
    assert "data.train.rooms" in outcome.err
    assert "data/images" in outcome.err.replace("\n", "")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks.dpeth={}", "unknown task 'dpeth' in --set tasks.dpeth={} (tasks.dpeth); did you mean 'depth'?"),
        ("tasks.depth.taps=[res9]", "(tasks.depth): unknown tap 'res9'; did you mean 'res"),
        ("optimzer.lr=1", "--set optimzer.lr=1: unknown key 'optimzer'; did you mean 'optimizer'?"),
        ("memory.budget=1kB", "a memory.budget of 1000 B is too small"),
        ("data.train.rooms.root=/nowhere", "/nowhere"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(ubertrain: Command, tmp_path: Path, override: str, message: str) -> None:
    """Unknown names, typing errors and budgets that nothing meets end before a run folder is made."""
    config = write_config(tmp_path, write_rooms(tmp_path / "data", parts=DENSE), {"tasks": TASKS})
    outcome = ubertrain("train", config, "--run", tmp_path / "run", "--set", override)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_typing_error_in_the_file_is_named_with_its_line(ubertrain: Command, tmp_path: Path) -> None:
    """The message begins with file and line and says what was probably meant."""
    file = write_config(tmp_path, tmp_path)
    lines = file.read_text().replace("log_every", "log_evry").splitlines()
    file.write_text("\n".join(lines))
    outcome = ubertrain("config", "show", file)
    number = 1 + next(i for i, line in enumerate(lines) if "log_evry" in line)
    assert outcome.code == 2
    assert f"rooms.yaml:{number}: unknown key 'log_evry'; did you mean 'log_every'?" in outcome.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trunk.widht=9", "unknown key 'widht' for trunk 'tests.rooms:TinyTrunk' in --set trunk.widht=9 (trunk); did you mean"),
        (
            "tasks.depth.losss=l1",
            "unknown key 'losss' for task 'depth' in --set tasks.depth.losss=l1 (tasks.depth); did",
        ),
        ("tasks.depth.loss=l7", "task 'depth' in"),
        ("tasks.dpeth={}", "unknown task 'dpeth' in --set tasks.dpeth={} (tasks.dpeth); did you mean 'depth'?"),
        ("data.train.rooms.lables=[depth]", "unknown key 'lables' for data set 'folder' in --set data.train.rooms.lables"),
        ("data.val.rooms.type=foldr", "unknown data set 'foldr'"),
    ],
)
def test_what_is_shown_would_be_taken(ubertrain: Command, tmp_path: Path, override: str, message: str) -> None:
    """`config show` refuses names and keywords that training would refuse, and needs neither data nor all keys for that."""
    config = write_config(tmp_path, tmp_path / "no data", {"tasks": {"depth": {}, "segmentation": {}}})
    assert ubertrain("config", "show", config).code == 0
    outcome = ubertrain("config", "show", config, "--set", override)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.out == ""


@pytest.fixture
def depth_run(ubertrain: Command, tmp_path: Path) -> Path:
    """A run of four steps on dense tasks in `run`; returns its configuration."""
    config = write_config(tmp_path, write_rooms(tmp_path / "data", parts=DENSE), {"tasks": TASKS})
    assert ubertrain("train", config, "--run", tmp_path / "run").code == 0
    return config


def test_a_damaged_state_is_passed_over_loudly(ubertrain: Command, tmp_path: Path, depth_run: Path) -> None:
    """Resuming says which file is damaged, goes on from the state before, and ends where the run without damage ended."""
    weights = tmp_path / "run" / "state" / "step-00000004" / "weights.safetensors"
    whole = weights.read_bytes()
    cut(weights)
    outcome = ubertrain("train", depth_run, "--run", tmp_path / "run", "--resume")
    assert outcome.code == 0, outcome.err
    assert "step-00000004/weights.safetensors: damaged" in outcome.err.replace("\n", "")
    assert "resuming after step 2" in outcome.err
    assert weights.read_bytes() == whole


def test_no_whole_state_is_an_error(ubertrain: Command, tmp_path: Path, depth_run: Path) -> None:
    """With every state damaged nothing is trained over them, and `eval` and `predict` say so too."""
    for file in (tmp_path / "run" / "state").glob("*/rest.pt"):
        file.unlink()
    for command in (("train", depth_run, "--run", tmp_path / "run", "--resume"), ("eval", tmp_path / "run")):
        outcome = ubertrain(*command)
        assert outcome.code == 2
        assert "every saved state is damaged" in outcome.err


def test_another_configuration_cannot_be_resumed(ubertrain: Command, tmp_path: Path, depth_run: Path) -> None:
    """A state of another model is refused with the names that differ."""
    outcome = ubertrain("train", depth_run, "--run", tmp_path / "run", "--resume", "--set", "tasks.depth.width=16")
    assert outcome.code == 2
    assert "heads.depth" in outcome.err
    assert "belongs to another configuration" in outcome.err


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(ubertrain: Command, tmp_path: Path) -> None:
    """A run that explodes names task and samples, and its last good step can be resumed with a lower learning rate."""
    config = write_config(tmp_path, write_rooms(tmp_path / "data", parts=DENSE), {"tasks": TASKS})
    outcome = ubertrain("train", config, "--run", tmp_path / "run", "--set", "optimizer.lr=1e38")
    assert outcome.code == 2
    assert "NonFiniteError: step 2: the loss of task" in outcome.err
    assert "samples: rooms/room" in outcome.err
    assert [path.name for path in (tmp_path / "run" / "state").iterdir()] == ["step-00000001"]
    assert ubertrain("eval", tmp_path / "run").code in (0, 2)


def test_a_run_is_never_overwritten(ubertrain: Command, tmp_path: Path, depth_run: Path) -> None:
    """A second run in the same folder is refused unless it resumes."""
    outcome = ubertrain("train", depth_run, "--run", tmp_path / "run")
    assert outcome.code == 2
    assert "continue it with --resume" in outcome.err


@pytest.mark.parametrize(("command", "option"), [("train", "--run"), ("data", "--out")])
def test_a_place_that_cannot_be_written_to_is_named(ubertrain: Command, tmp_path: Path, command: str, option: str) -> None:
    """What the operating system refuses is a message with the path, not a traceback."""
    (tmp_path / "taken").touch()
    config = write_config(tmp_path, write_rooms(tmp_path / "data", 4))
    outcome = ubertrain(command, config, option, tmp_path / "taken")
    assert outcome.code == 2
    assert f"File exists: {tmp_path / 'taken'}" in outcome.err.replace("\n", "")
