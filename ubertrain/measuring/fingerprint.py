"""A name for a step that another step has too only if it costs the same: a digest of all that torch does in it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import ubertrain.engine
import ubertrain.planning.chain
from ubertrain.engine.branches import coupling, without_autocast
from ubertrain.engine.graph import Graph
from ubertrain.engine.heads import head_stages
from ubertrain.measuring.fakes import faked
from ubertrain.measuring.roofline import Tf32, speed_of
from ubertrain.measuring.speed import Speed


def fingerprint(graph: Graph, images: Any, targets: Mapping[str, Any], *, cost: str, rounding: int = 1) -> str:
    """A digest of one step of plain autograd on fake tensors, operation by operation, and of what counts its bytes and work.

    Source code and attributes need not be compared: what they change in a step, they change in its operations. The versions of
    torch and ubertrain, and the speed of the device that `cost` stands for are part of it.

    Args:
        graph, images, targets, cost, rounding: as in `estimate`.

    Raises:
        ConfigError, ScheduleError, TaskError: as `estimate`.
    """
    device = next(graph.parameters(), torch.empty(0)).device
    digest = hashlib.sha256(f"{torch.__version__} {_own_source()} {rounding} {graph.normalise}".encode())
    digest.update(f"{cost} {_pace(speed_of(cost, device), cost)} {Tf32.set_now()}".encode())
    for task, branch in graph.branches.items():
        head, criterion = graph.heads[task], graph.criteria[task] if task in graph.criteria else None
        coupled = coupling(head), criterion is not None and coupling(criterion)
        offers = [hasattr(head, name) for name in ("narrow", "join")], branch.loss is None
        digest.update(f"{task} {graph.taps[task]} {branch.weight} {coupled} {offers}".encode())
    with faked(graph, images, targets) as (copied, batch, labels):
        for task, share in copied.labelled(batch, labels).items():
            digest.update(f"{task} {share.rows} {share.divisor}".encode())
        with _Digest(digest) as operations:
            for name in copied.stage_names:
                copied.stage(name).register_forward_pre_hook(lambda *unused, name=name: digest.update(f"stage {name}".encode()))
            for name, parameter in copied.named_parameters():
                digest.update(f"{name} {parameter.requires_grad} {operations.form(parameter)}".encode())
            for task in copied.branches:
                for name in head_stages(copied, task):
                    stage = copied.heads[task].get_submodule(name)
                    stage.register_forward_pre_hook(lambda *unused, name=name: digest.update(f"head {name}".encode()))
            total = sum(copied.losses(batch, labels).values())
            if isinstance(total, Tensor) and total.requires_grad:
                with without_autocast(total.device.type):
                    total.backward()
    return digest.hexdigest()


def _pace(speed: Speed | None, cost: str) -> str:
    """What a device reaches; what was timed, in steps of half as much again: no two runs time alike."""
    if speed is None or cost != "auto":
        return str(speed)
    figures = [speed.bytes_per_second, speed.overhead, *(speed.flops[name] for name in sorted(speed.flops))]
    return str([round(math.log(figure, 1.5)) for figure in figures])


class _Digest(TorchDispatchMode):
    """Adds every operation to a digest, with the forms of its tensors and which of them share memory with which."""

    def __init__(self, digest: Any) -> None:
        super().__init__()
        self._digest = digest
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # storages are told apart by address, so none may be freed in between

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._add(func, (args, kwargs))
        result = func(*args, **kwargs)
        self._add("gives", result)
        return result

    def form(self, tensor: Tensor) -> str:
        """Shape, strides, type and device of a tensor, and the number of its storage in the order of appearance."""
        if tensor.layout != torch.strided:
            return f"{tuple(tensor.shape)} {tensor.dtype} {tensor.layout}"
        storage = tensor.untyped_storage()
        if storage._cdata not in self._numbers:
            self._numbers[storage._cdata] = len(self._numbers)
            self._alive.append(storage)
        place = f"{self._numbers[storage._cdata]}+{tensor.storage_offset()} of {storage.nbytes()}"
        return f"{tuple(tensor.shape)} {tensor.stride()} {tensor.dtype} {tensor.device} {place}"

    def _add(self, what: Any, tree: Any) -> None:
        leaves = (self.form(leaf) if isinstance(leaf, Tensor) else _text(leaf) for leaf in pytree.tree_leaves(tree))
        self._digest.update(f"{what} {' '.join(leaves)}".encode())


def _text(leaf: Any) -> str:
    """What an argument says, without addresses, which differ from run to run."""
    text = repr(leaf)
    return type(leaf).__name__ if " at 0x" in text else text


@cache
def _own_source() -> str:
    """A digest of what measures: chains of another version are none of ours."""
    folders = Path(__file__).parent, Path(str(ubertrain.engine.__file__)).parent
    files = [*(file for folder in folders for file in sorted(folder.glob("*.py"))), Path(ubertrain.planning.chain.__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
