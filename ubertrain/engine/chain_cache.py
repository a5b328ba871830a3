"""Chains that have been measured before, in memory and on disk: the same step need not be measured twice."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.engine.estimate import estimate
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.planning.chain import Chain

FOLDER = "UBERTRAIN_CACHE"
"""The environment variable that names the folder of the cache, or says "off"."""

_FORMAT = 1
_MOST_FILES = 256
_memory: dict[str, Chain] = {}


def remembered(graph: Graph, images: Any, targets: Mapping[str, Any], *, cost: str, rounding: int = 1) -> Chain:
    """`estimate`, or what it has given before for the same step.

    Two steps are the same if modules (their source included), shapes, dtypes, rows, autocast, cost and the versions of torch
    and ubertrain are. A step whose parts have no source to compare is measured every time.

    Args:
        graph, images, targets, cost, rounding: as in `estimate`.

    Raises:
        ConfigError, ScheduleError, TaskError: as `estimate`.
    """
    try:
        key = fingerprint(graph, images, targets, cost=cost, rounding=rounding)
    except (OSError, TypeError):  # what inspect raises where there is no source
        return estimate(graph, images, targets, cost=cost, rounding=rounding)
    if key not in _memory:
        _memory[key] = _read(key) or _write(key, estimate(graph, images, targets, cost=cost, rounding=rounding))
    return _memory[key]


def forget() -> None:
    """Empty the memory's part of the cache."""
    _memory.clear()


def fingerprint(graph: Graph, images: Any, targets: Mapping[str, Any], **options: Any) -> str:
    """A name that two steps share if and only if they cost the same.

    Raises:
        OSError, TypeError: the source of a module or loss cannot be read.
    """
    device = next(graph.parameters(), torch.empty(0)).device
    parts = [
        [_FORMAT, version("ubertrain"), torch.__version__, sorted(options.items()), str(device)],
        [torch.is_autocast_enabled(device.type), str(torch.get_autocast_dtype(device.type)), graph.normalise],
        list(_modules(graph)),
        [(name, _form(tensor), tensor.requires_grad) for name, tensor in graph.named_parameters()],
        [(name, _form(tensor)) for name, tensor in graph.named_buffers()],
        [(task, graph.taps[task], branch.weight, _source(branch.criterion)) for task, branch in graph.branches.items()],
        _forms(images),
        [(task, Labels.of(target).rows, _forms(Labels.of(target).value)) for task, target in targets.items()],
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _modules(graph: Graph) -> Iterator[tuple[Any, ...]]:
    numbers: dict[int, int] = {}  # a module that stands in two places is one, and two alike are two
    for name, module in graph.named_modules(remove_duplicate=False):
        number = numbers.setdefault(id(module), len(numbers))
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        yield name, number, hooks, module.extra_repr(), _attributes(module), _source(type(module))


def _source(part: Any) -> str:
    """What a class, function or module does: its name where torch's version tells, else its source and what it refers to."""
    if isinstance(part, nn.Module):
        return _source(type(part))
    if part is None:
        return "none"
    name = getattr(part, "__qualname__", None)
    if name is None:
        raise TypeError(f"{part!r} has no source of its own")
    if part.__module__.partition(".")[0] == "torch" and "<locals>" not in name:
        return f"{part.__module__}.{name}"
    closure = [repr(cell.cell_contents) for cell in getattr(part, "__closure__", None) or ()]
    return f"{part.__module__}.{name} {inspect.getsource(part)} {closure} {_attributes(getattr(part, '__self__', None))}"


def _attributes(owner: Any) -> list[tuple[str, str]]:
    """The plain values that an object carries, which may decide what it does."""
    pairs = ((name, repr(value)) for name, value in getattr(owner, "__dict__", {}).items() if not name.startswith("_"))
    return sorted((name, text) for name, text in pairs if " at 0x" not in text)


def _forms(tree: Any) -> Any:
    leaves, structure = pytree.tree_flatten(tree)
    return [str(structure), [_form(leaf) if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves]]


def _form(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tuple(tensor.stride()), str(tensor.dtype), str(tensor.device)


def _folder() -> Path | None:
    named = os.environ.get(FOLDER)
    if named == "off":
        return None
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ubertrain") / "chains"


def _read(key: str) -> Chain | None:
    folder = _folder()
    if folder is None:
        return None
    try:
        return Chain.from_dict(json.loads((folder / f"{key}.json").read_text()))
    except (OSError, ValueError, TypeError, KeyError):  # absent, or damaged: it is measured again
        return None


def _write(key: str, chain: Chain) -> Chain:
    folder = _folder()
    if folder is not None:
        with contextlib.suppress(OSError):  # a folder that cannot be written costs time, not the run
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False) as file:
                json.dump(chain.to_dict(), file)
            os.replace(file.name, folder / f"{key}.json")
            for old in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-_MOST_FILES]:
                old.unlink(missing_ok=True)
    return chain
