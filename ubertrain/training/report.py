"""What a run has achieved: the tables at its end."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ubertrain.task import Task
from ubertrain.training.comparison import Comparison
from ubertrain.training.memory import StaticBytes
from ubertrain.training.records import PeakRecord, Scores


@dataclass(frozen=True)
class TaskResult:
    """One line of the table of scores.

    Attributes:
        metric: the score's name.
        higher_is_better: its direction.
        before: of the new heads; nan if it was not measured.
        after: of the trained graph.
        constant: of the best constant answer; nan if there is none.
    """

    metric: str
    higher_is_better: bool
    before: float
    after: float
    constant: float

    @property
    def beats_constant(self) -> bool | None:
        """Whether looking at the image was of use; None if one of the two scores is not known."""
        if math.isnan(self.after) or math.isnan(self.constant):
            return None
        return self.after > self.constant if self.higher_is_better else self.after < self.constant


@dataclass(frozen=True)
class Report:
    """The end of a run.

    Attributes:
        steps: optimizer steps taken, those before a resume included.
        seconds: since the run was started or resumed.
        schedule: what a step with labels for all tasks keeps and recomputes, as text.
        results: task -> its line in the table.
        by_set: data set -> task -> all scores after training.
        peak_bytes: the largest measured peak of a step, static bytes not counted.
        static: bytes of weights, gradients and optimizer.
        epochs: training set -> how often it was gone through.
        skipped: message -> how often a sample was left out of training because of it; 0 if it was met in evaluation alone.
        memory: this step against plain autograd, if that was asked for.
        first_peak: predicted and measured peak of the first step, if it was taken now and by a fitted schedule.
    """

    steps: int
    seconds: float
    schedule: str
    results: Mapping[str, TaskResult]
    by_set: Mapping[str, Scores]
    peak_bytes: int
    static: StaticBytes
    epochs: Mapping[str, float]
    skipped: Mapping[str, int] = field(default_factory=dict)
    memory: tuple[Comparison, ...] = ()
    first_peak: PeakRecord | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON can hold it, but for numbers that are not finite."""
        return asdict(self)


def task_results(tasks: Mapping[str, Task], *, before: Scores, after: Scores, constant: Scores) -> dict[str, TaskResult]:
    """The table of scores, by each task's primary score."""
    results = {}
    for name, task in tasks.items():
        metric = task.metric()
        values = [scores.get(name, {}).get(metric.primary, math.nan) for scores in (before, after, constant)]
        results[name] = TaskResult(metric.primary, metric.higher_is_better, *values)
    return results
