"""The gain of multi-task training, by hand."""

import math
from pathlib import Path

import pytest

from tests.runs import write_run
from ubertrain.errors import ConfigError
from ubertrain.training.delta_m import Seeds, delta_m, divide
from ubertrain.training.finished import FinishedRun, read_finished


@pytest.fixture
def runs(tmp_path: Path) -> "Runs":
    """Makes runs in a folder."""
    return Runs(tmp_path)


class Runs:
    """Makes finished runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def __call__(self, scores: dict[str, float], *overrides: str, **keywords: object) -> FinishedRun:
        self.count += 1
        return read_finished(write_run(self.folder / f"run{self.count}", scores, f"seed={self.count}", *overrides, **keywords))


def test_gains_are_signed_by_what_is_better(runs: Runs) -> None:
    """10 % more mIoU is a gain of 10, 10 % more depth error a loss of 10, and Delta_m their mean."""
    both = runs({"segmentation": 0.55, "depth": 0.22, "boundaries": 0.7})
    result = delta_m([both], [runs({"segmentation": 0.5}), runs({"depth": 0.2}), runs({"boundaries": 0.5})])
    gains = {task: gain.percent for task, gain in result.gains.items()}
    assert gains == pytest.approx({"segmentation": 10, "depth": -10, "boundaries": 40})
    assert result.percent == pytest.approx(40 / 3)
    assert not result.left_out and not result.remarks


def test_the_published_example_comes_out(runs: Runs) -> None:
    """The NYUD-v2 baseline of the survey, which prints +0.41 and from its rounded scores has +0.40."""
    result = delta_m([runs({"segmentation": 44.4, "depth": 0.587})], [runs({"segmentation": 43.9}), runs({"depth": 0.585})])
    assert result.percent == pytest.approx(0.40, abs=0.005)


def test_seeds_are_averaged_on_both_sides(runs: Runs) -> None:
    """The gain is that of the means; the spread of Delta_m is that of the multi-task runs against the mean of the others."""
    multi = [runs({"segmentation": value, "depth": 0.1}) for value in (0.6, 0.5, 0.7)]
    single = [runs({"segmentation": value}) for value in (0.4, 0.6)] + [runs({"depth": 0.1})]
    result = delta_m(multi, single)
    gain = result.gains["segmentation"]
    assert (gain.multi.mean, gain.single.mean) == (pytest.approx(0.6), pytest.approx(0.5))
    assert gain.multi.spread == pytest.approx(0.1)
    assert gain.percent == pytest.approx(20)
    assert result.percent == pytest.approx(10)
    assert result.seeds.values == pytest.approx((10, 0, 20))
    assert result.seeds.mean == pytest.approx(result.percent)


def test_one_run_has_no_spread() -> None:
    """Nobody knows it."""
    assert math.isnan(Seeds((0.5,)).spread)


def test_tasks_that_cannot_be_compared_are_listed(runs: Runs) -> None:
    """Without partner, without score, measured by 0, or in a single-task run alone; Delta_m is that of the others."""
    multi = runs({"segmentation": 0.5, "depth": 0.1, "normals": 20.0, "boundaries": 0.5})
    single = [runs({"segmentation": 0.4}), runs({"depth": math.nan}), runs({"boundaries": 0.0})]
    result = delta_m([multi], single)
    assert list(result.gains) == ["segmentation"]
    assert result.left_out == {
        "depth": f"has no score in {single[1].path}",
        "normals": "has no run to be measured by",
        "boundaries": f"has a score of 0 in {single[2].path}, of which nothing is a percentage",
    }
    assert delta_m([runs({"depth": 0.1})], [runs({"depth": 0.1, "normals": 3.0})]).left_out == {
        "normals": f"is in {runs.folder}/run{runs.count} alone"
    }


def test_with_nothing_to_compare_there_is_no_delta(runs: Runs) -> None:
    """The message says why for each task."""
    with pytest.raises(ConfigError, match=r"no task to compare: depth has no run to be .* by; normals is in .*run2 alone"):
        delta_m([runs({"depth": 0.1})], [runs({"normals": 20.0})])


def test_one_task_has_one_measure(runs: Runs) -> None:
    """Two kinds of runs with a task are no seeds of each other; neither are two kinds of multi-task runs."""
    multi, alone, paired = runs({"depth": 0.1, "normals": 9.0}), runs({"depth": 0.1}), runs({"depth": 0.1, "boundaries": 0.5})
    with pytest.raises(ConfigError, match=r"the runs that task 'depth' is measured by have different tasks: .*run2 has depth"):
        delta_m([multi], [alone, paired])
    with pytest.raises(ConfigError, match=r"the runs to compare have different tasks: .*run1 has depth, normals"):
        delta_m([multi, alone], [paired])


def test_metrics_must_be_the_same(runs: Runs) -> None:
    """AbsRel and RMSE are not divided by each other."""
    with pytest.raises(ConfigError, match=r"scored by AbsRel \(lower is better\) in .*run1, but by RMSE"):
        delta_m([runs({"depth": 0.1})], [runs({"depth": 0.5}, metrics={"depth": "RMSE"})])


@pytest.mark.parametrize(
    ("overrides", "keywords", "remark"),
    [
        (["trunk.width=4"], {}, "the trunk of .*run1 and .*run2 differ: name tests.rooms:TinyTrunk, width 8 and .*width 4"),
        (["data.size=[32, 32]"], {}, "the size of the input .*: 48, 64 and 32, 32"),
        ([], {"sets": ("halls",)}, "the validation sets of depth .*: rooms and halls"),
    ],
)
def test_unfair_comparisons_are_remarked(runs: Runs, overrides: list[str], keywords: dict[str, object], remark: str) -> None:
    """Another trunk, size or validation set does not stop the comparison, but is told."""
    result = delta_m([runs({"depth": 0.1})], [runs({"depth": 0.1}, *overrides, **keywords)])
    assert len(result.remarks) == 1
    assert pytest.approx(0) == result.percent
    with pytest.raises(AssertionError, match=remark):
        raise AssertionError(result.remarks[0])


def test_equal_seeds_are_remarked(runs: Runs) -> None:
    """Their spread is none."""
    result = delta_m([runs({"depth": 0.1}, "seed=5"), runs({"depth": 0.1}, "seed=5")], [runs({"depth": 0.1})])
    assert result.remarks == (f"{runs.folder}/run1, {runs.folder}/run2 have the seeds 5, 5, not all different",)


def test_runs_divide_by_their_tasks(runs: Runs) -> None:
    """Those with the tasks of the first, in any order, and the others."""
    first, other, same = runs({"depth": 0.1, "normals": 9.0}), runs({"depth": 0.1}), runs({"normals": 9.0, "depth": 0.1})
    assert divide([first, other, same]) == ([first, same], [other])
