"""From a configuration to the things it names: data sets, tasks, trunk and graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from ubertrain.data.loading import TrainLoader
from ubertrain.data.mixing import Mixer
from ubertrain.data.reader import Reader
from ubertrain.data.readers import READERS
from ubertrain.data.wanted import wanted_labels
from ubertrain.engine.branch import Branch
from ubertrain.engine.graph import Graph
from ubertrain.engine.level import IMAGE, Level
from ubertrain.errors import ConfigError, TaskError
from ubertrain.registry import TASKS, TRUNKS, Registry
from ubertrain.task import Task
from ubertrain.training import random_state
from ubertrain.training.config import Config, TaskConfig, unknown
from ubertrain.training.device import device_of
from ubertrain.training.finer import finer_stages
from ubertrain.trunks.trunk import Tap, Trunk

T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """What a configuration trains.

    Attributes:
        config: with the classes of tasks filled in.
        tasks: name -> task.
        graph: trunk and heads, on the device of the configuration.
    """

    config: Config
    tasks: Mapping[str, Task]
    graph: Graph


def prepare(config: Config) -> None:
    """Set the threads and seed every generator, as `config` says."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    random_state.seed_all(config.seed)


def check_keywords(config: Config) -> None:
    """Look up everything that `config` names, and the keys it is given, without making it: no file of a data set is touched.

    Raises:
        ConfigError: an unknown name, or a key that is unknown or of another type; names file and line.
    """
    _check(TRUNKS, config.trunk.name, config, ("trunk",), config.trunk.keywords)
    for name, item in config.tasks.items():
        _check(TASKS, _type(config, name), config, ("tasks", name), item.keywords)
    for part, sets in (("train", config.data.train), ("val", config.data.val)):
        for name, one in sets.items():
            _check(READERS, one.type, config, ("data", part, name), one.keywords)


def make_readers(config: Config, part: Literal["train", "val"]) -> dict[str, Reader]:
    """Name -> data set, of `data.train` or `data.val`.

    Raises:
        ConfigError: an unknown type or key.
        DataError: a missing folder or an empty set.
    """
    sets = config.data.train if part == "train" else config.data.val
    return {name: _made(READERS, item.type, config, ("data", part, name), item.keywords) for name, item in sets.items()}


def make_loader(config: Config, tasks: Mapping[str, Task], readers: Mapping[str, Reader]) -> TrainLoader:
    """The batches of training.

    Raises:
        ConfigError: tasks and data sets do not fit; names both.
    """
    sets = config.data.train
    mixer = Mixer(readers, {name: item.weight for name, item in sets.items()}, batch=config.data.batch, seed=config.seed)
    return TrainLoader(
        mixer,
        tasks,
        size=config.data.size,
        warps={name: item.warp for name, item in sets.items() if item.warp is not None},
        workers=config.data.workers,
        on_error=config.data.on_error,
    )


def fill_classes(config: Config, readers: Mapping[str, Reader]) -> Config:
    """`config` with the class names of the data sets for every task that takes `classes` and was given none.

    Raises:
        ConfigError: no set labels a task, or the classes that it was given are not those of the sets that do.
    """
    filled: dict[str, TaskConfig] = {}
    for name, item in config.tasks.items():
        label = _label(config, name)
        if not any(label in reader.kinds for reader in readers.values()):
            offers = "; ".join(f"{key!r} carries {', '.join(reader.kinds) or 'no labels'}" for key, reader in readers.items())
            raise ConfigError(f"{_place(config, name)}: no data set carries {label!r}, which task {name!r} needs; {offers}")
        names = _class_names(label, readers)
        if names is None or "classes" not in TASKS.keywords(_type(config, name), _place(config, name)):
            continue
        given = item.keywords.get("classes")
        if given is None:
            filled[name] = item.model_copy(update={"classes": list(names)})
        elif (given != len(names)) if isinstance(given, int) else (tuple(given) != names):
            raise ConfigError(
                f"{_place(config, name)}: classes is {given!r}, but the data sets that label it have {len(names)}: "
                f"{', '.join(names)}; leave the key out to take those"
            )
    return config.model_copy(update={"tasks": {**config.tasks, **filled}})


def make_tasks(config: Config) -> dict[str, Task]:
    """Name -> task.

    Raises:
        ConfigError: an unknown task or key, or a value that the task refuses.
    """
    return {name: _make_task(config, name) for name in config.tasks}


def make_model(
    config: Config, train_sets: Mapping[str, Reader], val_sets: Mapping[str, Reader] | None = None, *, pretrained: bool = True
) -> Model:
    """Tasks, trunk and graph, with new weights in the heads.

    Args:
        config: what to make.
        train_sets: tell the classes; none if `config` holds them already.
        val_sets: checked to number their classes in the same way.
        pretrained: whether to read the `weights` of the trunk; not needed where a saved state follows.

    Raises:
        ConfigError: an unknown name, key or tap, or tasks and data sets that do not fit; names file and line.
    """
    if train_sets:
        config = fill_classes(config, train_sets)
    tasks = make_tasks(config)
    if train_sets:
        wanted_labels(train_sets, tasks)
        parts = {"train": train_sets, "val": val_sets or {}}
        wanted_labels({f"{part}.{name}": reader for part in parts for name, reader in parts[part].items()}, tasks)
    keywords = {key: value for key, value in config.trunk.keywords.items() if pretrained or key != "weights"}
    device = device_of(config)
    trunk = _made(TRUNKS, config.trunk.name, config, ("trunk",), keywords).to(device)  # before it may be cut
    return Model(config, tasks, make_graph(config, trunk, tasks).to(device))


def make_graph(config: Config, trunk: Trunk, tasks: Mapping[str, Task]) -> Graph:
    """Every task as a branch on the trunk, which begins with a stage that gives the images if one reads the tap "image".

    Raises:
        ConfigError: a task reads a tap that the trunk does not have.
    """
    branches, known = {}, {**trunk.taps, IMAGE: Tap(IMAGE, 3, 1)}
    for name, task in tasks.items():
        taps = [_tap(config, name, tap, known) for tap in task.taps]
        head = _make_head(config, name, task, taps)
        plain = type(task).losses is Task.losses  # then the engine may run the head in pieces
        loss = {"loss": task.loss} if plain else {"losses": task.losses}
        branches[name] = Branch(head, [tap.stage for tap in taps], weight=config.tasks[name].weight, **loss)
    stages = finer_stages(trunk) if config.memory.finer else trunk.stages()
    if any(IMAGE in task.taps for task in tasks.values()):
        stages = {IMAGE: nn.Identity(), **stages}
    return Graph(stages, branches)


def _make_task(config: Config, name: str) -> Task:
    """The task called `name`; taps and key go to its constructor if that takes them."""
    item, kind, place = config.tasks[name], _type(config, name), _place(config, name)
    own = {key: value for key, value in (("taps", item.taps), ("key", item.key)) if value is not None}
    taken = {key: value for key, value in own.items() if key in TASKS.keywords(kind, place)}
    task = _made(TASKS, kind, config, ("tasks", name), {**item.keywords, **taken})
    for key in own.keys() - taken.keys():
        setattr(task, key, own[key])
    return task


def _make_head(config: Config, name: str, task: Task, taps: Sequence[Tap]) -> nn.Module:
    """The head of a task; what it refuses is reported with the task's line."""
    try:
        return task.make_head([Level(tap.channels, tap.stride) for tap in taps])
    except (ConfigError, TaskError) as error:
        raise type(error)(f"{_place(config, name)}: {error}") from error


def _made(registry: Registry[T], name: str, config: Config, path: tuple[str, ...], keywords: Mapping[str, Any]) -> T:
    """What the mapping at `path` names; an unknown key is reported with its own line."""
    return registry.make(name, _where(registry, name, config, path, keywords), **keywords)


def _check(registry: Registry[T], name: str, config: Config, path: tuple[str, ...], keywords: Mapping[str, Any]) -> None:
    """As `_made`, but that nothing is made."""
    registry.check(name, _where(registry, name, config, path, keywords), **keywords)


def _where(registry: Registry[T], name: str, config: Config, path: tuple[str, ...], keywords: Mapping[str, Any]) -> str:
    """The place of the first key that what is called `name` does not have, or else of the mapping at `path`."""
    known = registry.keywords(name, f"{config.where(*path)} ({'.'.join(path)})")
    wrong = [key for key in keywords if key not in known][:1]
    return f"{config.where(*path, *wrong)} ({'.'.join(path)})"


def _tap(config: Config, task: str, tap: str, known: Mapping[str, Tap]) -> Tap:
    if tap not in known:
        raise ConfigError(
            f"{_place(config, task)}: {unknown('tap', tap, list(known))} (the taps of trunk {config.trunk.name!r})"
        )
    return known[tap]


def _label(config: Config, name: str) -> str:
    """The label of a task that is not made yet, since its classes come from the sets that carry the label."""
    cls: Any = TASKS.get(_type(config, name), _place(config, name))
    return config.tasks[name].key or cls.key or cls.annotation.key


def _class_names(label: str, readers: Mapping[str, Reader]) -> tuple[str, ...] | None:
    """The classes of `label`; that all sets agree on them is `wanted_labels`' to check."""
    carried = (reader for reader in readers.values() if label in reader.kinds)
    return next((tuple(reader.classes[label]) for reader in carried if label in reader.classes), None)


def _type(config: Config, name: str) -> str:
    return config.tasks[name].type or name


def _place(config: Config, name: str) -> str:
    return f"{config.where('tasks', name)} (tasks.{name})"
