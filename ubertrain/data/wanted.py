"""Which labels of which data sets the tasks use, and whether the two fit."""

from collections.abc import Mapping

from ubertrain.data.reader import Reader
from ubertrain.errors import ConfigError
from ubertrain.task import Task


def wanted_labels(readers: Mapping[str, Reader], tasks: Mapping[str, Task]) -> dict[str, frozenset[str]]:
    """Data set -> the labels that some task reads from it.

    Raises:
        ConfigError: a task that no data set labels, a data set that labels no task, a label of another kind than the task
            needs, or a label whose classes differ between data sets.
    """
    for name, task in tasks.items():
        if not any(task.label in reader.kinds for reader in readers.values()):
            raise ConfigError(f"no data set carries {task.label!r}, which task {name!r} needs; {_offers(readers)}")
        _expect_same_classes(task.label, readers)
    return {name: _labels_of(name, reader, tasks) for name, reader in readers.items()}


def _labels_of(set_name: str, reader: Reader, tasks: Mapping[str, Task]) -> frozenset[str]:
    for name, task in tasks.items():
        kind = reader.kinds.get(task.label)
        if kind is not None and not issubclass(kind, task.annotation):
            raise ConfigError(
                f"{task.label!r} of data set {set_name!r} is {kind.__name__}, but task {name!r} needs "
                f"{task.annotation.__name__}; give the task the `key` of another label"
            )
    labels = frozenset(task.label for task in tasks.values()) & set(reader.kinds)
    if not labels:
        raise ConfigError(f"no task uses a label of data set {set_name!r}; {_offers({set_name: reader})}")
    return labels


def _expect_same_classes(label: str, readers: Mapping[str, Reader]) -> None:
    """Raise `ConfigError` if the data sets that carry `label` number its classes differently."""
    carried = {name: reader for name, reader in readers.items() if label in reader.kinds and label in reader.classes}
    named = {name: tuple(reader.classes[label]) for name, reader in carried.items()}
    for name, classes in named.items():
        first = next(iter(named))
        if classes != named[first]:
            raise ConfigError(
                f"{label!r} has {_few(named[first])} in data set {first!r} and {_few(classes)} in data set {name!r}; one task "
                f"needs one list: choose the classes that both sets label, in one order"
            )


def _few(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:4]) + (", ..." if len(classes) > 4 else "")
    return f"{len(classes)} classes ({shown})"


def _offers(readers: Mapping[str, Reader]) -> str:
    return "; ".join(f"{name!r} carries {', '.join(reader.kinds) or 'no labels'}" for name, reader in readers.items())
