"""Reading what a finished run left."""

import math
from pathlib import Path

import pytest

from tests.runs import write_run
from ubertrain.errors import ConfigError, StateError
from ubertrain.training.finished import read_finished
from ubertrain.training.report import TaskResult


def test_scores_and_sets_come_back(tmp_path: Path) -> None:
    """As they were written; JSON's null is nan."""
    run = read_finished(write_run(tmp_path / "run", {"depth": 0.1, "segmentation": math.nan}, "seed=3", sets=("b", "a")))
    assert run.results["depth"] == TaskResult("AbsRel", False, pytest.approx(math.nan, nan_ok=True), 0.1, 0.0)
    assert math.isnan(run.results["segmentation"].after) and run.results["segmentation"].higher_is_better
    assert run.scored_on == {"depth": ("a", "b"), "segmentation": ("a", "b")}
    assert run.config.seed == 3


def test_what_is_no_finished_run_is_named(tmp_path: Path) -> None:
    """A folder without a run, a run that was interrupted, and a report that is damaged."""
    with pytest.raises(ConfigError, match=f"{tmp_path} holds no run"):
        read_finished(tmp_path)
    path = write_run(tmp_path / "run", {"depth": 0.1})
    for content in ("{", "[]", '{"results": {"depth": {}}, "by_set": {}}'):
        (path / "report.json").write_text(content)
        with pytest.raises(StateError, match=r"run/report.json is damaged"):
            read_finished(path)
    (path / "report.json").unlink()
    with pytest.raises(ConfigError, match=r"has not ended: there is no report.json .* --run .*/run --resume"):
        read_finished(path)
