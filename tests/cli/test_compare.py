"""`ubertrain compare`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs import write_run

Command = Callable[..., Any]


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """Two seeds of a training of two tasks, and one run of each task."""
    return {
        "both": write_run(tmp_path / "both", {"segmentation": 0.6, "depth": 0.1}, "seed=1"),
        "both-2": write_run(tmp_path / "both-2", {"segmentation": 0.5, "depth": 0.1}, "seed=2"),
        "segmentation": write_run(tmp_path / "segmentation", {"segmentation": 0.5}),
        "depth": write_run(tmp_path / "depth", {"depth": 0.2}),
    }


def test_the_table_shows_each_task_and_their_mean(ubertrain: Command, runs: dict[str, Path]) -> None:
    """Scores on both sides, signed gains, and Delta_m in the last line."""
    outcome = ubertrain("compare", runs["both"], runs["segmentation"], runs["depth"])
    assert outcome.code == 0, outcome.err
    words = [[word for word in line.split("│") if word.strip()] for line in outcome.out.splitlines()]
    lines = [[cell.strip() for cell in line] for line in words if len(line) > 1]
    assert ["segmentation", "mIoU", "higher", "0.6", "0.5", "+20.0 %"] in lines
    assert ["depth", "AbsRel", "lower", "0.1", "0.2", "+50.0 %"] in lines
    assert lines[-1] == ["Delta_m", "mean of 2", "higher", "+35.0 %"]
    assert outcome.err == ""


def test_seeds_are_averaged(ubertrain: Command, runs: dict[str, Path]) -> None:
    """Runs with the tasks of the first count with it, wherever they stand; JSON holds what the table shows."""
    words = ("compare", runs["both"], runs["segmentation"], runs["both-2"], runs["depth"])
    found = ubertrain(*words, "--json").json
    assert found["tasks"]["segmentation"]["multi"] == {
        "mean": pytest.approx(0.55), "spread": pytest.approx(0.0707, abs=1e-4), "runs": [0.6, 0.5]}  # fmt: skip
    assert found["tasks"]["segmentation"]["single"] == {"mean": 0.5, "spread": None, "runs": [0.5]}
    assert found["delta_m"]["runs"] == pytest.approx([35, 25])
    assert found["delta_m"]["percent"] == pytest.approx(30)
    assert "0.55 ± 0.07071 (2)" in ubertrain(*words).out
    assert "+30.0 ± 7.1 %" in ubertrain(*words).out


def test_against_names_the_measure(ubertrain: Command, runs: dict[str, Path]) -> None:
    """So that two trainings of the same tasks may be compared."""
    found = ubertrain("compare", runs["both"], "--against", runs["both-2"], "--json").json
    assert found["tasks"]["segmentation"]["percent"] == pytest.approx(20)


def test_what_is_left_out_is_told(ubertrain: Command, runs: dict[str, Path]) -> None:
    """On stderr, so that the JSON stays one document."""
    outcome = ubertrain("compare", runs["both"], runs["depth"], "--json")
    assert outcome.code == 0
    assert outcome.json["left_out"] == {"segmentation": "has no run to be measured by"}
    assert "left out: segmentation has no run to be measured by" in outcome.err


def test_mistakes_are_explained(ubertrain: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    """A folder that holds no run, one given twice, and nothing to measure by."""
    (tmp_path / "empty").mkdir()
    for words, message in (
        ([runs["both"], tmp_path / "empty"], "empty holds no run: there is no config.yaml in it"),
        ([runs["both"], runs["both"]], "both is given twice"),
        ([runs["both"], runs["both-2"]], "name those to measure by with --against"),
        ([runs["depth"], runs["segmentation"]], "there is no task to compare"),
    ):
        outcome = ubertrain("compare", *words)
        assert outcome.code == 2
        assert message in outcome.err


def test_a_real_run_can_be_read(ubertrain: Command, trained: Any, tmp_path: Path) -> None:
    """What training writes is what is compared."""
    found = ubertrain("compare", trained.run, write_run(tmp_path / "depth", {"depth": 0.2}), "--json").json
    assert set(found["tasks"]) == {"depth"}
    assert found["tasks"]["depth"]["multi"]["mean"] == pytest.approx(trained.outcome.json["results"]["depth"]["after"])
