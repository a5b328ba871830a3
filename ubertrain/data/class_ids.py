"""Class ids against the number of classes: a data set may say that, and so may a task."""

from collections.abc import Mapping
from typing import Any

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.semantic_edges import SemanticEdges
from ubertrain.data.blame import blame
from ubertrain.data.sample import Sample
from ubertrain.errors import DataError
from ubertrain.task import Task


def check_ids(kind: type[Annotation], value: Any, count: int, whose: str) -> None:
    """Raise `DataError` for a class id that `count` classes do not have; `whose` they are begins "task 'boxes' has"."""
    if issubclass(kind, SemanticEdges):
        if len(value) != count:
            raise DataError(f"{len(value)} planes of semantic edges, but {whose} {count} classes; give a plane for each")
        return
    ids = value["classes"] if issubclass(kind, Boxes) else value
    if issubclass(kind, ClassMap):
        ids = ids.masked_fill(ids == ClassMap.unknown, 0)
    if ids.numel() and not 0 <= (wrong := int(ids.max())) < count:
        raise DataError(f"class id {wrong}, but {whose} {count} classes (0 to {count - 1})")


def check_for_tasks(sample: Sample, tasks: Mapping[str, Task]) -> None:
    """Raise `DataError` for a class id that a task does not have, in a data set that does not say how many it has.

    A loss would fail on it without a word about the sample, or on a GPU without any word.
    """
    for name, task in tasks.items():
        names = getattr(task, "names", ())
        if names and task.label in sample.annotations and issubclass(task.annotation, Boxes | ClassMap | SemanticEdges):
            with blame(f"sample {sample.id!r} ({sample.source}), {task.label}"):
                check_ids(task.annotation, sample.annotations[task.label], len(names), f"task {name!r} has")
