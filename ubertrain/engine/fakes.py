"""Tensors that have a shape and no memory, and graphs made of them."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels


def fake_copy(graph: Graph, mode: FakeTensorMode) -> Graph:
    """The graph with fake parameters and buffers, sharing what is shared in the original."""
    fakes: dict[int, Any] = {}
    for parameter in graph.parameters():
        fakes[id(parameter)] = nn.Parameter(mode.from_tensor(parameter.detach()), parameter.requires_grad)
    for buffer in graph.buffers():
        fakes[id(buffer)] = mode.from_tensor(buffer)
    return copy.deepcopy(graph, fakes)


def fake(value: Any, mode: FakeTensorMode) -> Any:
    """Any pytree with fake tensors for tensors."""
    return pytree.tree_map_only(Tensor, mode.from_tensor, value)


def fake_labels(labels: Labels, mode: FakeTensorMode) -> Labels:
    """Labels with fake values; their rows are numbers and stay."""
    return Labels(fake(labels.value, mode), labels.rows)
