"""A run that has ended, as its folder tells it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ubertrain.errors import ConfigError, StateError
from ubertrain.training.config import Config
from ubertrain.training.report import TaskResult
from ubertrain.training.run_folder import RunFolder


@dataclass(frozen=True)
class FinishedRun:
    """What a run came to.

    Attributes:
        path: its folder, as the user named it.
        config: what it did.
        results: task -> its line in the table of scores; nan for what is not known.
        scored_on: task -> the validation sets that carry its label.
    """

    path: Path
    config: Config
    results: Mapping[str, TaskResult]
    scored_on: Mapping[str, tuple[str, ...]]


def read_finished(path: Path) -> FinishedRun:
    """The run in the folder `path`.

    Raises:
        ConfigError: the folder holds no run, or one that has not ended.
        StateError: its report is damaged.
    """
    folder = RunFolder(path)
    config = folder.config()
    if not folder.report_file.exists():
        raise ConfigError(
            f"{path} holds a run that has not ended: there is no {folder.report_file.name} in it; "
            f"finish it with ubertrain train CONFIG --run {path} --resume"
        )
    try:
        report = json.loads(folder.report_file.read_text())
        results = {task: _result(line) for task, line in report["results"].items()}
        sets = {name: tuple(scores) for name, scores in report["by_set"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"{folder.report_file} is damaged: it is not a report of ubertrain ({error!r})") from error
    scored_on = {task: tuple(sorted(name for name, tasks in sets.items() if task in tasks)) for task in results}
    return FinishedRun(path, config, results, scored_on)


def _result(line: Mapping[str, Any]) -> TaskResult:
    numbers = {key: math.nan if line[key] is None else float(line[key]) for key in ("before", "after", "constant")}
    return TaskResult(metric=str(line["metric"]), higher_is_better=bool(line["higher_is_better"]), **numbers)
