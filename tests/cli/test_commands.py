"""Every command does its work and prints JSON when asked."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.rooms import write_config, write_rooms

TASKS = ["boxes", "segmentation", "depth", "normals", "boundaries"]
Command = Callable[..., Any]


def test_help_lists_the_commands_and_exit_codes(ubertrain: Command) -> None:
    """`--help` names every command."""
    shown = ubertrain("--help")
    assert shown.code == 0
    assert all(word in shown.out for word in ("train", "eval", "predict", "plan", "tasks", "data", "config", "Exit codes"))


def test_training_reports_every_task_before_and_after(trained: Any) -> None:
    """The report has a line per task, the measured memory for one task to five, and equals the file in the run folder."""
    assert trained.outcome.code == 0, trained.outcome.err
    report = trained.outcome.json
    assert list(report["results"]) == TASKS
    assert all(
        math.isfinite(result[column]) for result in report["results"].values() for column in ("before", "after", "constant")
    )
    assert [line["tasks"] for line in report["memory"]] == [1, 2, 3, 4, 5]
    assert all(line["ours"] <= line["autograd"] for line in report["memory"])
    assert report["steps"] == 4
    assert report == json.loads((trained.run / "report.json").read_text())


def test_the_run_folder_is_complete(trained: Any) -> None:
    """Configuration, numbers, states and a sheet per task are there."""
    names = {str(path.relative_to(trained.run)) for path in trained.run.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.jsonl", "report.json", *(f"pictures/{task}.png" for task in TASKS)} <= names
    assert sorted(path.name for path in (trained.run / "state").iterdir()) == ["step-00000002", "step-00000004"]
    events = [json.loads(line)["event"] for line in (trained.run / "metrics.jsonl").read_text().splitlines()]
    assert events == ["evaluation", "step", "step", "step", "evaluation"]


def test_tables_are_for_people(ubertrain: Command, tmp_path: Path) -> None:
    """Without `--json` the report is tables on stdout, and progress goes to stderr."""
    config = write_config(
        tmp_path, write_rooms(tmp_path / "data", 4, [["depth"]]), {"tasks": {"depth": {"taps": ["res2"], "width": 8}}}
    )
    outcome = ubertrain("train", config, "--run", tmp_path / "run", "--compare-memory", "--set", "steps=2")
    assert outcome.code == 0, outcome.err
    assert "AbsRel" in outcome.out
    assert "plain autograd" in outcome.out
    assert "step 2: depth" in outcome.err
    assert f"everything is in {tmp_path / 'run'}" in outcome.err


def test_eval_repeats_the_scores_of_the_run(ubertrain: Command, trained: Any) -> None:
    """The newest state scores what the run reported at its end."""
    outcome = ubertrain("eval", trained.run, "--json")
    assert outcome.code == 0, outcome.err
    results = trained.outcome.json["results"]
    for task in TASKS:
        assert outcome.json["scores"][task][results[task]["metric"]] == pytest.approx(results[task]["after"])
        assert outcome.json["constant"][task][results[task]["metric"]] == pytest.approx(results[task]["constant"])
    assert "mIoU" in ubertrain("eval", trained.run).out


def test_predict_writes_pictures_and_boxes(ubertrain: Command, trained: Any, tmp_path: Path) -> None:
    """An image of another size gets a picture per task of its own size, and a list of boxes."""
    Image.fromarray(np.full((90, 70, 3), 90, np.uint8)).save(tmp_path / "photo.jpg")
    outcome = ubertrain("predict", trained.run, tmp_path / "photo.jpg", "--out", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    assert {Path(name).name for name in outcome.json["files"]} == {
        *(f"photo_{task}.png" for task in TASKS), "sheet.png", "boxes.json"}  # fmt: skip
    with Image.open(tmp_path / "out" / "photo_depth.png") as picture:
        assert picture.size == (70, 90)
    assert isinstance(outcome.json["boxes"][str(tmp_path / "photo.jpg")]["boxes"], list)


def test_predict_takes_overrides(ubertrain: Command, trained: Any, tmp_path: Path) -> None:
    """A larger input sees something else, and a key that does not exist is a mistake."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)).save(tmp_path / "photo.png")
    for folder, size in (("a", "[48,64]"), ("b", "[96,128]")):
        outcome = ubertrain(
            "predict", trained.run, tmp_path / "photo.png", "--out", tmp_path / folder, "--set", f"data.size={size}"
        )
        assert outcome.code == 0, outcome.err
    drawn = [(tmp_path / folder / "photo_depth.png").read_bytes() for folder in "ab"]
    assert drawn[0] != drawn[1]
    wrong = ubertrain("predict", trained.run, tmp_path / "photo.png", "--out", tmp_path / "c", "--set", "data.sice=[96,128]")
    assert wrong.code == 2 and "sice" in wrong.err


def test_predict_needs_no_data(ubertrain: Command, trained: Any, tmp_path: Path) -> None:
    """A run answers where its data sets are out of reach."""
    hidden = trained.data.with_name("hidden")
    trained.data.rename(hidden)
    try:
        outcome = ubertrain("predict", trained.run, hidden / "images" / "room0.png", "--out", tmp_path)
    finally:
        hidden.rename(trained.data)
    assert outcome.code == 0, outcome.err
    assert "room0_depth.png" in outcome.out


FEW = ("--set", "tasks={depth: {taps: [res3], width: 8}}", "--set", "memory.cost=flops")


def test_plan_shows_what_a_budget_costs(ubertrain: Command, trained: Any) -> None:
    """A budget is met by a schedule that training takes; tables and JSON tell it stage by stage, and other budgets."""
    free = ubertrain("plan", trained.config, *FEW, "--json")
    assert free.code == 0, free.err
    least = sum(free.json["static"].values()) + free.json["front"][0]["peak_bytes"]
    assert free.json["budget"] is None
    tight = ubertrain("plan", trained.config, *FEW, "--budget", least, "--json").json
    assert tight["budget"] == least
    assert sum(tight["static"].values()) + tight["chosen"]["peak_bytes"] <= least
    assert tight["chosen"]["work"] > free.json["chosen"]["work"]
    tables = ubertrain("plan", trained.config, *FEW, "--budget", least, "--measure")
    assert tables.code == 0, tables.err
    for words in ("recomputed 1x", "images at a time", "plain autograd", "memory over the step", "this / plain"):
        assert words in tables.out
    assert f"memory.schedule: {tight['chosen']['schedule']}" in tables.out
    again = ubertrain("plan", trained.config, *FEW, "--set", f"memory.schedule={tight['chosen']['schedule']}", "--json")
    assert again.json["chosen"]["peak_bytes"] == tight["chosen"]["peak_bytes"]


def test_plan_asks_what_if(ubertrain: Command, trained: Any) -> None:
    """Another batch, another planner, and a device that is not there."""
    small, large = (ubertrain("plan", trained.config, *FEW, "--batch", n, "--json").json for n in (2, 4))
    assert small["chosen"]["peak_bytes"] < large["chosen"]["peak_bytes"]
    baseline = ubertrain("plan", trained.config, *FEW, "--planner", "every_k", "--json").json
    assert len(baseline["front"]) <= 4
    assert baseline["front"][0]["peak_bytes"] >= large["front"][0]["peak_bytes"]
    absent = ubertrain("plan", trained.config, *FEW, "--device", "h100", "--json").json
    assert absent["device"] == "h100"
    assert absent["budget"] > 60 * 2**30


def test_plan_draws(ubertrain: Command, trained: Any, tmp_path: Path) -> None:
    """The picture is where it was asked for, and nothing but JSON goes to stdout."""
    pytest.importorskip("matplotlib")
    outcome = ubertrain("plan", trained.config, *FEW, "--png", tmp_path / "plan.png", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["chosen"]
    with Image.open(tmp_path / "plan.png") as picture:
        assert picture.width > 1000


def test_train_tells_predicted_and_measured_peak(ubertrain: Command, tmp_path: Path) -> None:
    """With a budget the first step says both, side by side, and on a CPU they are the same; so do its files and its report."""
    config = write_config(
        tmp_path, write_rooms(tmp_path / "data", 4, [["depth"]]), {"tasks": {"depth": {"taps": ["res2"], "width": 8}}}
    )
    words = [word for option in ("memory.budget=1GiB", "memory.cost=flops", "steps=1") for word in ("--set", option)]
    outcome = ubertrain("train", config, *words, "--run", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert re.search(r"first step: peak (.*) predicted, \1 measured \(\+0\.0 %\)", outcome.err)
    assert "peak of the first step, predicted" in outcome.out
    first = json.loads((tmp_path / "run" / "report.json").read_text())["first_peak"]
    assert first["predicted"] == first["measured"] > 0
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"event": "peak", "step": 1, **first} in events


def test_tasks_lists_what_can_be_configured(ubertrain: Command) -> None:
    """Tasks, trunks and data sets are listed with the keys they take."""
    tasks = {row["name"]: row for row in ubertrain("tasks", "--json").json}
    assert set(tasks) >= set(TASKS)
    assert tasks["boundaries"]["annotation"] == "edges"
    assert tasks["segmentation"]["keys"]["classes"] == "required"
    assert "width" in {row["name"]: row for row in ubertrain("tasks", "--trunks", "--json").json}["resnet18"]["keys"]
    assert "root" in {row["name"]: row for row in ubertrain("tasks", "--sets", "--json").json}["folder"]["keys"]
    assert "segmentation" in ubertrain("tasks").out


def test_data_counts_labels_and_draws_samples(ubertrain: Command, trained: Any, tmp_path: Path) -> None:
    """Every set is counted task by task, and a sheet of warped samples is drawn for each."""
    outcome = ubertrain("data", trained.config, "--out", tmp_path, "--set", "data.train.rooms.warp={degrees: 10}", "--json")
    assert outcome.code == 0, outcome.err
    train, val = outcome.json["sets"]
    assert (train["name"], train["images"], val["name"]) == ("train.rooms", 8, "val.rooms")
    assert train["labelled"] == {"boxes": 2, "segmentation": 4, "depth": 4, "normals": 2, "boundaries": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.rooms.png", "val.rooms.png"]
    assert "train.rooms" in ubertrain("data", trained.config).out


def test_config_show_fills_everything_in(ubertrain: Command, trained: Any, tmp_path: Path) -> None:
    """What is shown can be given back as a configuration, and the schema knows its keys."""
    shown = ubertrain("config", "show", trained.config, "--set", "optimizer.lr=0.5")
    assert shown.code == 0
    (tmp_path / "again.yaml").write_text(shown.out)
    assert ubertrain("config", "show", tmp_path / "again.yaml").out == shown.out
    values = ubertrain("config", "show", trained.config, "--json").json
    assert values["optimizer"]["lr"] == 0.01
    assert {*values, "base", "only"} == set(ubertrain("config", "schema").json["properties"])


def test_data_draws_samples_without_being_told_where(ubertrain: Command, trained: Any) -> None:
    """One sheet per set, in the folder of runs."""
    outcome = ubertrain("data", trained.config, "--json")
    assert outcome.json["pictures"] == [f"runs/{trained.config.stem}-samples/{one['name']}.png" for one in outcome.json["sets"]]
    assert all(Path(name).is_file() for name in outcome.json["pictures"])
