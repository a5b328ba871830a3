"""Whether two runs were scored on the same samples, labels and classes, in the same way; and if not, the key that tells."""

from collections.abc import Mapping, Sequence
from typing import Any

from ubertrain.data.readers import READERS
from ubertrain.errors import ConfigError
from ubertrain.registry import TASKS, Registry
from ubertrain.training.finished import FinishedRun

_JUDGED_BY = ("key", "protocol", "valid", "crop", "align", "judge", "tolerance", "thresholds", "thin", "leniency", "absent")
"""What tasks call the settings of their metrics; the classes are told apart by `expect_same_classes`."""
_CUTS = ("take", "drop")
_SHOWN = 60


def expect_same_classes(task: str, first: FinishedRun, other: FinishedRun) -> None:
    """Raise `ConfigError` unless both runs tell apart the same classes; names the first that differs, and both files."""
    items = [run.config.tasks.get(task) for run in (first, other)]
    ours, theirs = (item.keywords.get("classes") if item else None for item in items)
    if ours is None or theirs is None:
        return  # no classes, or a configuration that was not filled in
    how_many = [given if isinstance(given, int) else len(given) for given in (ours, theirs)]
    if how_many[0] != how_many[1]:
        told = [f"{count} classes" for count in how_many]
    elif isinstance(ours, int) or isinstance(theirs, int) or list(ours) == list(theirs):
        return
    else:
        at = next(index for index, (one, two) in enumerate(zip(ours, theirs, strict=True)) if one != two)
        told = [f"class {at} as {given[at]!r}" for given in (ours, theirs)]
    here, there = (run.config.where("tasks", task, "classes") for run in (first, other))
    raise ConfigError(
        f"task {task!r} has {told[0]} in {here}, but {told[1]} in {there} (tasks.{task}.classes); scores of different classes "
        "cannot be compared"
    )


def differences(first: FinishedRun, other: FinishedRun, tasks: Sequence[str]) -> list[str]:
    """The first key by which each of `tasks` is judged in another way, and each of their validation sets is another one.

    Keys that concern training alone are not compared, neither is a default that only one of the two spells out. Sets that only
    one run has are not looked at.
    """
    found = [_of_task(first, other, task) for task in tasks if task in other.results]
    shared = {name for task in tasks for name in {*first.scored_on[task]} & {*other.scored_on.get(task, ())}}
    known = first.config.data.val.keys() & other.config.data.val.keys()
    found += [_of_set(first, other, name) for name in first.config.data.val if name in shared & known]
    return [difference for difference in found if difference]


def _of_task(first: FinishedRun, other: FinishedRun, task: str) -> str:
    def judged(run: FinishedRun) -> dict[str, Any]:
        item = run.config.tasks[task]
        kind = item.type or task
        keywords = _without_defaults(TASKS, kind, item.keywords | {"key": item.key})
        return {"type": kind} | {key: keywords[key] for key in _JUDGED_BY if keywords.get(key) is not None}

    if task not in first.config.tasks or task not in other.config.tasks:
        return ""
    return _first(first, other, ("tasks", task), judged(first), judged(other), f"{task} is not judged alike")


def _of_set(first: FinishedRun, other: FinishedRun, name: str) -> str:
    sets = [run.config.data.val[name] for run in (first, other)]
    ours, theirs = ({"type": item.type} | _without_defaults(READERS, item.type, item.keywords) for item in sets)
    if not any(key in keys for key in _CUTS for keys in (ours, theirs)):
        # Each task is scored on the samples with its label, whatever else is read; but ranges count the samples that are read.
        ours.pop("labels", None), theirs.pop("labels", None)
    return _first(first, other, ("data", "val", name), ours, theirs, f"the validation set {name} is not the same")


def _without_defaults(registry: Registry[Any], name: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that are not what they would be anyway; all of them if nobody knows."""
    try:
        known = registry.keywords(name)
    except ConfigError:  # of a package that is not installed here
        return {key: value for key, value in keywords.items() if value is not None}
    return {key: value for key, value in keywords.items() if key not in known or _plain(known[key].default) != _plain(value)}


def _plain(value: Any) -> Any:
    """As YAML has it: a list for a tuple."""
    return list(value) if isinstance(value, tuple) else value


def _first(
    first: FinishedRun,
    other: FinishedRun,
    path: tuple[str, ...],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    what: str,
) -> str:
    """The first key with different values, as a sentence; empty if there is none."""
    for key in {**ours, **theirs}:
        if _plain(ours.get(key)) != _plain(theirs.get(key)):
            here, there = (run.config.where(*path, key) for run in (first, other))
            told, told_there = (_shown(values[key]) if key in values else "left out" for values in (ours, theirs))
            return f"{what}: {'.'.join(path)}.{key} is {told} in {here}, but {told_there} in {there}"
    return ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
