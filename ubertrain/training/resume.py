"""Whether a saved state belongs to a configuration."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ubertrain.errors import StateError
from ubertrain.training.config import AUTO, Config
from ubertrain.training.state import State

_SHOWN = 4


def require_fit(state: State, graph: nn.Module, config: Config) -> None:
    """Raise `StateError` unless `state` holds the weights of `graph` and the optimizer of `config`."""
    saved = {name: tuple(tensor.shape) for name, tensor in state.weights.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in graph.state_dict().items()}
    wrong = [
        f"{name} is {saved.get(name, 'absent')}, expected {expected.get(name, 'absent')}"
        for name in {**expected, **saved}
        if saved.get(name) != expected.get(name)
    ]
    before = json.loads(state.rest["config"])
    optimizer, finer = before["optimizer"]["type"], before.get("memory", {}).get("finer", False)
    if wrong and finer != config.memory.finer:
        was, now, where = json.dumps(finer), json.dumps(config.memory.finer), config.where("memory", "finer")
        raise StateError(
            f"the saved state of step {state.step} was made with memory.finer: {was}, but {where} has {now}, with which the "
            f"weights of the trunk have other names; set memory.finer: {was}, or start a new run"
        )
    if optimizer != config.optimizer.type:
        wrong.append(f"optimizer.type is {optimizer}, expected {config.optimizer.type}")
    if wrong:
        shown = "; ".join(wrong[:_SHOWN]) + (f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
        raise StateError(
            f"the saved state of step {state.step} belongs to another configuration: {shown}; resume with the configuration "
            "it was made with, or start a new run"
        )


def changes(state: State, config: Config) -> list[str]:
    """What is configured differently from when `state` was saved, such as "optimizer.lr: 0.1 -> 0.01"."""
    before = dict(_flat(json.loads(state.rest["config"]), ""))
    now = dict(_flat(json.loads(config.model_dump_json()), ""))
    return [
        f"{key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}"
        for key in {**before, **now}
        if before.get(key, ...) != now.get(key, ...)
    ]


def plans_alike(state: State, config: Config) -> bool:
    """Whether the schedules that were fitted for `state` serve `config` as well; what is free ("auto") may have changed."""
    planned_for = ("memory", "trunk", "tasks", "optimizer", "data", "device", "autocast")
    return config.memory.budget != AUTO and not any(change.startswith(planned_for) for change in changes(state, config))


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value
