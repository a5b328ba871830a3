"""Tensors that have a shape and no memory, and graphs made of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree

from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.errors import ScheduleError


@contextmanager
def faked(graph: Graph, images: Any, targets: Mapping[str, Any]) -> Iterator[tuple[Graph, Any, dict[str, Labels]]]:
    """A context in which a step can be run that neither computes nor allocates; gives the graph, images and labels for it.

    Args:
        graph: is copied, not touched.
        images: a batch; tensors without memory ("meta") or of another fake mode will do, and so does a shape, like
            (8, 3, 512, 512), of float32 images on the graph's device.
        targets: labels of the batch, as the engine takes them.

    Raises:
        ScheduleError: the shapes of something in the step depend on values.
    """
    device = next(graph.parameters(), torch.empty(0)).device
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.random.fork_rng(devices=[]):
        labels = {task: _labels(Labels.of(target), mode, device) for task, target in targets.items()}
        try:
            yield _copy(graph, mode), _images(images, mode, device), labels
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise ScheduleError(
                f"this graph cannot be measured without computing: {error.func} needs values, not only shapes. Give it a fixed "
                "size (top-k, weights instead of a boolean index), or measure a real step under LiveBytes"
            ) from error


def _copy(graph: Graph, mode: FakeTensorMode) -> Graph:
    """The graph with fake parameters and buffers, sharing what is shared in the original."""
    fakes: dict[int, Any] = {}
    for parameter in graph.parameters():
        fakes[id(parameter)] = nn.Parameter(_fake(parameter.detach(), mode, parameter.device), parameter.requires_grad)
    for buffer in graph.buffers():
        fakes[id(buffer)] = _fake(buffer, mode, buffer.device)
    return copy.deepcopy(graph, fakes)


def _images(images: Any, mode: FakeTensorMode, device: torch.device) -> Any:
    if isinstance(images, tuple | list) and images and all(isinstance(size, int) for size in images):
        return torch.empty(tuple(images), device=_real(device))
    return pytree.tree_map_only(Tensor, lambda leaf: _fake(leaf, mode, device), images)


def _labels(labels: Labels, mode: FakeTensorMode, device: torch.device) -> Labels:
    return Labels(pytree.tree_map_only(Tensor, lambda leaf: _fake(leaf, mode, device), labels.value), labels.rows)


def _fake(tensor: Tensor, mode: FakeTensorMode, device: torch.device) -> Tensor:
    if isinstance(tensor, FakeTensor) or tensor.is_meta:
        where = device if tensor.is_meta else tensor.device
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=_real(where))
    return mode.from_tensor(tensor)


def _real(device: torch.device) -> torch.device:
    """A graph without memory is measured as if it were on the CPU."""
    return torch.device("cpu") if device.type == "meta" else device
