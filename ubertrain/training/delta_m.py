"""Multi-task against single-task training: the average relative gain Delta_m (Maninis et al. 2019; Vandenhende et al. 2021)."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ubertrain.errors import ConfigError
from ubertrain.training.comparable import differences, expect_same_classes
from ubertrain.training.finished import FinishedRun


@dataclass(frozen=True)
class Seeds:
    """One score of several runs that differ in their seed.

    Attributes:
        values: of each run.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Their standard deviation, of a sample (n - 1); nan for a single run."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan


@dataclass(frozen=True)
class TaskGain:
    """What training with other tasks did to one.

    Attributes:
        metric: the task's primary score.
        higher_is_better: its direction.
        multi: with the other tasks.
        single: without them.
    """

    metric: str
    higher_is_better: bool
    multi: Seeds
    single: Seeds

    @property
    def percent(self) -> float:
        """100 (multi - single) / single of the means, negated where lower is better: above 0 is a gain."""
        return self.percent_of(self.multi.mean)

    def percent_of(self, score: float) -> float:
        """The same for one score in place of the mean of `multi`."""
        gain = 100 * (score - self.single.mean) / self.single.mean
        return gain if self.higher_is_better else -gain


@dataclass(frozen=True)
class DeltaM:
    """A comparison of multi-task runs with single-task runs.

    Attributes:
        gains: task -> its gain, in the order of the first multi-task run.
        left_out: task -> why it has none.
        remarks: what makes the comparison less than fair.
    """

    gains: Mapping[str, TaskGain]
    left_out: Mapping[str, str]
    remarks: tuple[str, ...]

    @property
    def percent(self) -> float:
        """Delta_m: the mean of the tasks' gains."""
        return statistics.fmean(gain.percent for gain in self.gains.values())

    @property
    def seeds(self) -> Seeds:
        """Delta_m of each multi-task run, against the mean of the single-task runs."""
        runs = zip(*(map(gain.percent_of, gain.multi.values) for gain in self.gains.values()), strict=True)
        return Seeds(tuple(map(statistics.fmean, runs)))

    def as_json(self) -> dict[str, Any]:
        """As JSON can hold it, but for numbers that are not finite."""
        tasks = {
            name: {
                "metric": gain.metric,
                "higher_is_better": gain.higher_is_better,
                "percent": gain.percent,
                **{side: _json(seeds) for side, seeds in (("multi", gain.multi), ("single", gain.single))},
            }
            for name, gain in self.gains.items()
        }
        return {
            "delta_m": {"percent": self.percent, "spread": self.seeds.spread, "runs": list(self.seeds.values)},
            "tasks": tasks,
            "left_out": dict(self.left_out),
            "remarks": list(self.remarks),
        }


def delta_m(multi: Sequence[FinishedRun], single: Sequence[FinishedRun]) -> DeltaM:
    """Compare runs with the runs that are their measure.

    Args:
        multi: runs with the same tasks, which differ in their seed.
        single: runs of which each has one of these tasks, or a few; those with the same tasks differ in their seed.

    Raises:
        ConfigError: `multi` have different tasks, a task is in different kinds of `single` runs, two runs score a task by
            different metrics or on different classes, or there is no task to compare.
    """
    _expect_same_tasks(multi, "the runs to compare")
    gains, left_out = {}, {}
    for task in multi[0].results:
        partners = [run for run in single if task in run.results]
        _expect_same_tasks(partners, f"the runs that task {task!r} is measured by")
        reason = _reason_against(task, multi, partners)
        if reason:
            left_out[task] = reason
            continue
        _expect_same_metric(task, [*multi, *partners])
        for run in (*multi[1:], *partners):
            expect_same_classes(task, multi[0], run)
        first = multi[0].results[task]
        sides = (Seeds(tuple(run.results[task].after for run in side)) for side in (multi, partners))
        gains[task] = TaskGain(first.metric, first.higher_is_better, *sides)
    for run in single:
        left_out |= {task: f"is in {run.path} alone" for task in run.results if task not in multi[0].results}
    if not gains:
        raise ConfigError(f"there is no task to compare: {'; '.join(f'{task} {why}' for task, why in left_out.items())}")
    return DeltaM(gains, left_out, tuple(_remarks(multi, single, list(gains))))


def divide(runs: Sequence[FinishedRun]) -> tuple[list[FinishedRun], list[FinishedRun]]:
    """The runs with the tasks of the first, and the others."""
    first = set(runs[0].results)
    alike = [run for run in runs if set(run.results) == first]
    return alike, [run for run in runs if set(run.results) != first]


def _reason_against(task: str, multi: Sequence[FinishedRun], partners: Sequence[FinishedRun]) -> str:
    """Why a task cannot be compared; empty if it can."""
    if not partners:
        return "has no run to be measured by"
    for run in (*multi, *partners):
        if not math.isfinite(run.results[task].after):
            return f"has no score in {run.path}"
    if statistics.fmean(run.results[task].after for run in partners) == 0:
        return f"has a score of 0 in {partners[0].path}, of which nothing is a percentage"
    return ""


def _expect_same_tasks(runs: Sequence[FinishedRun], what: str) -> None:
    for run in runs:
        if set(run.results) != set(runs[0].results):
            ours, theirs = (", ".join(one.results) for one in (runs[0], run))
            raise ConfigError(f"{what} have different tasks: {runs[0].path} has {ours}, {run.path} has {theirs}")


def _expect_same_metric(task: str, runs: Sequence[FinishedRun]) -> None:
    def named(run: FinishedRun) -> str:
        return f"{run.results[task].metric} ({'higher' if run.results[task].higher_is_better else 'lower'} is better)"

    for run in runs:
        if named(run) != named(runs[0]):
            raise ConfigError(
                f"task {task!r} is scored by {named(runs[0])} in {runs[0].path}, but by {named(run)} in {run.path}"
            )


def _remarks(multi: Sequence[FinishedRun], single: Sequence[FinishedRun], tasks: Sequence[str]) -> list[str]:
    first, remarks = multi[0], []
    for run in (*multi[1:], *single):
        for what, ours, theirs in (
            ("the trunk", first.config.trunk.model_dump(), run.config.trunk.model_dump()),
            ("the size of the input", first.config.data.size, run.config.data.size),
            *((f"the validation sets of {task}", first.scored_on[task], run.scored_on.get(task, ())) for task in tasks),
        ):
            if ours != theirs and theirs != ():
                remarks.append(f"{what} of {first.path} and {run.path} differ: {_shown(ours)} and {_shown(theirs)}")
        remarks += differences(first, run, tasks)
    for side in (multi, *_groups(single)):
        seeds = [run.config.seed for run in side]
        if len(set(seeds)) < len(seeds):
            remarks.append(f"{', '.join(str(run.path) for run in side)} have the seeds {_shown(seeds)}, not all different")
    return remarks


def _groups(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
    """Runs with the same tasks together."""
    groups: dict[frozenset[str], list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(frozenset(run.results), []).append(run)
    return list(groups.values())


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value))


def _json(seeds: Seeds) -> dict[str, Any]:
    return {"mean": seeds.mean, "spread": seeds.spread, "runs": list(seeds.values)}
