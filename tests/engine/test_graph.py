"""Graphs: what they are made of, and what they refuse."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.zoo import BATCH, Head, conv, images, labels, squared
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.errors import TaskError
from ubertrain.planning.schedule import Schedule


def graph_of(stage: str = "s", task: str = "t", **branch: Any) -> Graph:
    """One stage, one task."""
    return Graph({stage: conv(3, 4)}, {task: Branch(Head([4]), [stage], **(branch or {"loss": squared}))})


@pytest.mark.parametrize("name", ["", "keys", "train", "type"])
@pytest.mark.parametrize("what", ["stage", "task"])
def test_a_name_that_no_module_can_have_is_refused(what: str, name: str) -> None:
    """torch's containers refuse an empty name and the names of their own methods: a TaskError that quotes the name."""
    with pytest.raises(TaskError, match=f"{what} name '{name}' cannot be used"):
        graph_of(**{what: name})


def test_a_task_name_with_a_dot_is_refused() -> None:
    """A dot would be a path in the state dict."""
    with pytest.raises(TaskError, match=r"task name 'a\.b' cannot be used"):
        graph_of(task="a.b")


def test_tasks_may_come_from_an_iterator() -> None:
    """`tasks` is read once."""
    assert list(graph_of()(images(), iter(["t"]))) == ["t"]


@pytest.mark.parametrize("batch", [np.zeros((BATCH, 3, 8, 8)), torch.tensor(1.0), []], ids=["numpy", "0-d", "empty"])
def test_images_that_do_not_count_are_refused(batch: Any) -> None:
    """Without a tensor that has a first dimension there is no number of images."""
    with pytest.raises(TaskError, match="images must be a tensor"):
        graph_of().losses(batch, {"t": labels()})


class RatedLosses(nn.Module):
    """Losses with a parameter of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.ones(()))

    def forward(self, head: nn.Module, levels: list[Any], target: Any) -> Tensor:
        return squared(head(levels), target) * self.rate


@pytest.mark.parametrize("key", ["loss", "losses"])
def test_a_module_that_computes_losses_is_part_of_the_graph(key: str) -> None:
    """Its parameters are trained, moved and saved with the others."""
    assert "criteria.t.rate" in graph_of(**{key: RatedLosses()}).state_dict()


class Turned(nn.Module):
    """A value whose first dimension is not the images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).permute(2, 0, 1)


def test_rows_are_not_taken_from_another_dimension() -> None:
    """A level with another first dimension than the images is an error once only some rows are labelled."""
    graph = Graph({"s": Turned()}, {"t": Branch(nn.Identity(), ["s"], lambda levels, target: levels[0].mean((0, 2)))})
    assert graph.losses(images(), {"t": labels()}).keys() == {"t"}
    with pytest.raises(TaskError, match=r"shape \(64, 4, 3\)"):
        graph.losses(images(), {"t": Labels(labels(2), [0, 1])})


class Hides(nn.Module):
    """A stage whose value is of a class of its own."""

    def forward(self, x: Tensor) -> Any:
        return {"inside": SimpleNamespace(tensor=x), "word": "plain", "none": None, "size": x.shape, "type": x.dtype}


def test_a_tap_with_a_class_that_torch_does_not_know_is_refused() -> None:
    """By plain autograd and by the engine: its tensors would be neither detached nor given their rows."""
    graph = Graph({"a": Hides()}, {"t": Branch(Head([3]), ["a"], squared)})
    for run in (graph.losses, Engine(graph, Schedule.parse("a | t")).forward_backward):
        with pytest.raises(TaskError, match="tap 'a' holds a SimpleNamespace.*torch.utils._pytree"):
            run(images(), {"t": labels()})
