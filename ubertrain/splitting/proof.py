"""Stages held against the module they were cut from, on a real input."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.errors import ScheduleError


def prove(
    root: nn.Module, stages: Mapping[str, nn.Module], marks: Mapping[str, Sequence[str]], example: Any, *, taps: bool
) -> None:
    """Run a module and its stages once in training and once in evaluation, on copies, from the same random numbers.

    Args:
        root: the module; neither it nor random numbers are changed.
        stages: in order.
        marks: stage -> the called submodules whose last value its first value must be; the earliest that differs is named.
        example: the input, a tensor or a pytree.
        taps: whether the stages end at a tap, so that what the module returns is not theirs.

    Raises:
        ScheduleError: a value, the module's result, a buffer or the random numbers drawn differ.
    """
    for mode in (True, False):
        where = f"in {'training' if mode else 'evaluation'} mode"
        with _same_random_numbers():
            values, result, buffers, drawn = _run_module(root, marks, example, mode)
        with _same_random_numbers():
            found, ours, other_drawn = _run_stages(root, stages, example, mode)
        for name, path in ((name, path) for name, paths in marks.items() for path in paths):
            if not _alike(_first(values[path]), _first(found[name])):
                raise _differs(f"stage {name!r} does not return what {path!r} does {where}")
        if taps:
            continue
        last = next(reversed(found))
        if not _alike(result, found[last]):
            raise _differs(f"stage {last!r}, the last, does not return what {type(root).__name__} does {where}")
        for name, buffer in buffers.items():
            if not _alike(buffer, ours[name]):
                raise _differs(f"the stages leave the buffer {name!r} different {where}")
        if drawn != other_drawn:
            raise _differs(f"the stages draw other random numbers {where}")


def _differs(what: str) -> ScheduleError:
    return ScheduleError(
        f"{what}: tracing took something of its forward for granted. Keep the module around it whole (leaves=[...]), "
        "or write the stages yourself"
    )


def _run_module(
    root: nn.Module, marks: Mapping[str, Sequence[str]], example: Any, mode: bool
) -> tuple[dict[str, Any], Any, dict[str, Tensor], Any]:
    module, values = copy.deepcopy(root), dict[str, Any]()
    module.train(mode)
    for path in {path for paths in marks.values() for path in paths}:
        note = lambda _m, _args, output, path=path: values.__setitem__(path, _copied(output))  # noqa: E731
        module.get_submodule(path).register_forward_hook(note)
    result = module(_copied(example))
    return values, result, dict(module.named_buffers()), _drawn()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _run_stages(
    root: nn.Module, stages: Mapping[str, nn.Module], example: Any, mode: bool
) -> tuple[dict[str, Any], dict[str, Tensor], Any]:
    module, pieces = copy.deepcopy((root, dict(stages)))
    value, found = _copied(example), dict[str, Any]()
    for name, piece in pieces.items():
        piece.train(mode)
        value = piece(value)
        found[name] = _copied(value)
    return found, dict(module.named_buffers()), _drawn()


def _copied(values: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, values)


def _alike(left: Any, right: Any) -> bool:
    (ours, structure), (theirs, other) = pytree.tree_flatten(left), pytree.tree_flatten(right)
    if structure != other:
        return False
    return all(_same_leaf(a, b) for a, b in zip(ours, theirs, strict=True))


def _same_leaf(left: Any, right: Any) -> bool:
    """Alike up to rounding: some of a GPU's kernels do not add in the same order twice."""
    if not (isinstance(left, Tensor) and isinstance(right, Tensor)):
        return type(left) is type(right) and bool(left == right)
    try:
        torch.testing.assert_close(left.detach(), right.detach(), equal_nan=True)
    except AssertionError:
        return False
    return True


def _drawn() -> Any:
    return torch.rand(()).item(), random.random(), np.random.random()


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    host, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(host)
        np.random.set_state(arrays)
