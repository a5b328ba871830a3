"""Whole steps in parts of some images: the gradient of the whole, in the memory of a part."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import BATCH, Head, images, labels, plain, squared
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ScheduleError, TaskError
from ubertrain.planning.schedule import Schedule

WIDTHS = (4, 6, 8)


def graph_of(norm: Any = lambda c: nn.GroupNorm(2, c), head: nn.Module | None = None, **options: Any) -> Graph:
    """A task on the last of three stages, and one on the second."""
    branches = {"a": Branch(head or Head([8]), ["s2"], squared), "b": Branch(Head([6]), ["s1"], squared, weight=0.5)}
    return Graph(plain(WIDTHS, lambda c: [norm(c), nn.ReLU(True)]), branches, **options)


def grads(graph: Graph) -> dict[str, Tensor | None]:
    """Every .grad by parameter name."""
    return {name: p.grad for name, p in graph.named_parameters()}


@pytest.mark.parametrize("schedule", ["rows={} (s0 s1) s2 | a, b", "rows={} [s0] (s1) s2 | a rows=1, b late"])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("normalise", ["rows", "batch"])
def test_parts_give_the_gradient_and_losses_of_the_whole(schedule: str, rows: int, normalise: Any) -> None:
    """To rounding (relative 1e-6), with labels on rows that are scattered and out of order, however the loss is divided."""
    whole = graph_of(normalise=normalise).double()
    split, batch = copy.deepcopy(whole), images().double()
    targets = {"a": Labels(labels(3).double(), [3, 0, 1]), "b": labels().double()}
    left = Engine(whole, Schedule.parse("s0 s1 s2")).forward_backward(batch, targets)
    right = Engine(split, Schedule.parse(schedule.format(rows))).forward_backward(batch, targets)
    torch.testing.assert_close(right, left, rtol=1e-6, atol=0)
    torch.testing.assert_close(grads(split), grads(whole), rtol=1e-6, atol=1e-12)


def test_a_part_without_labels_is_not_run() -> None:
    """Nor is a task in a part that holds none of its rows."""
    graph, ran = graph_of(), list[str]()
    for name, module in [("s0", graph.stage("s0")), ("s2", graph.stage("s2")), *graph.heads.items()]:
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    targets = {"a": Labels(labels(1), [3]), "b": Labels(labels(2), [1, 3])}
    Engine(graph, Schedule.parse("rows=1 s0 s1 s2 | a, b")).forward_backward(images(), targets)
    assert ran == ["s0", "b", "s0", "s2", "b", "a"]


def test_parts_take_the_memory_of_one() -> None:
    """Eight images one by one need less than a quarter of what they need together."""
    batch, targets, peaks = torch.randn(8, 3, 16, 16), {"a": labels(8), "b": labels(8)}, []
    for rows in ("", "rows=1 "):
        with LiveBytes() as meter:
            Engine(graph_of(), Schedule.parse(f"{rows}s0 s1 s2 | a, b")).forward_backward(batch, targets)
        peaks.append(meter.peak)
    assert peaks[1] < peaks[0] / 4


class Couples(nn.Identity):
    couples_images = True


class LossModule(nn.Module):
    couples_images = True

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return squared(prediction, target)


def coupled() -> list[tuple[Graph, str]]:
    """Graphs that couple images somewhere, and where."""
    with_loss = graph_of()
    branches = with_loss.branches | {"a": Branch(Head([8]), ["s2"], LossModule())}
    return [
        (graph_of(nn.BatchNorm2d), "stage 's0' BatchNorm2d '1' takes its statistics"),
        (graph_of(head=Head([8], extra=Couples())), "the head of 'a' Couples 'extra' declares"),
        (
            Graph({name: with_loss.stage(name) for name in with_loss.stage_names}, branches),
            "the loss of 'a' LossModule declares",
        ),
    ]


@pytest.mark.parametrize(("graph", "message"), coupled(), ids=["stage", "head", "loss"])
def test_parts_of_what_couples_images_are_refused(graph: Graph, message: str) -> None:
    """Stage, head or loss is named, nothing is left in .grad; with the other task alone, or whole, the step runs."""
    with pytest.raises(ScheduleError, match=message):
        Engine(graph, Schedule.parse("rows=2 s0 s1 s2")).forward_backward(images(), {"a": labels(), "b": labels()})
    assert all(gradient is None for gradient in grads(graph).values())
    if "stage" not in message:
        Engine(graph, Schedule.parse("rows=2 s0 s1 s2")).forward_backward(images(), {"b": labels()})
    Engine(graph, Schedule.parse(f"rows={BATCH} s0 s1 s2")).forward_backward(images(), {"a": labels(), "b": labels()})


def test_batch_norm_in_eval_mode_does_not_couple() -> None:
    """A frozen batch norm may be run in parts."""
    graph = graph_of(lambda c: nn.BatchNorm2d(c).eval())
    Engine(graph, Schedule.parse("rows=2 s0 s1 s2")).forward_backward(images(), {"a": labels()})
    assert graph.stage("s0")[0].weight.grad is not None


@pytest.mark.parametrize("put_on", [torch.nn.utils.spectral_norm, torch.nn.utils.parametrizations.spectral_norm])
@pytest.mark.parametrize("schedule", ["rows=2 s0 s1 s2 | a, b", "s0 s1 s2 | a rows=2, b"])
def test_spectral_norm_is_refused_in_training_only(put_on: Any, schedule: str) -> None:
    """Its estimate would move once for every part."""
    head = Head([8])
    put_on(head.parts[0])
    graph, targets = graph_of(head=head), {"a": labels(), "b": labels()}
    with pytest.raises(ScheduleError, match="the spectral norm of .* moves its estimate with every call"):
        Engine(graph, Schedule.parse(schedule)).forward_backward(images(), targets)
    head.eval()
    Engine(graph, Schedule.parse(schedule)).forward_backward(images(), targets)


def towards(prediction: Tensor, target: Any) -> Tensor:
    """A loss whose labels are plain numbers, in a list or under a name."""
    numbers = target["at"] if isinstance(target, dict) else target
    return torch.stack([(row - number).square().mean() for row, number in zip(prediction, numbers, strict=True)])


@pytest.mark.parametrize("schedule", ["rows=2 s0 s1 s2 | a", "s0 s1 s2 | a rows=2"])
def test_labels_in_a_list_go_with_their_images(schedule: str) -> None:
    """One number per image is cut as a tensor is."""
    graph = Graph(plain(WIDTHS, lambda c: [nn.Tanh()]), {"a": Branch(Head([8]), ["s2"], towards)})
    batch, targets = images(), {"a": Labels([1.0, 2.0, 4.0, 8.0], [2, 0, 3, 1])}
    whole = Engine(graph, Schedule.parse("s0 s1 s2 | a")).forward_backward(batch, targets)
    split = Engine(graph, Schedule.parse(schedule)).forward_backward(batch, targets)
    torch.testing.assert_close(split, whole)


@pytest.mark.parametrize("schedule", ["rows=2 s0 s1 s2 | a", "s0 s1 s2 | a rows=2"])
def test_labels_that_may_be_one_per_image_are_refused(schedule: str) -> None:
    """A list inside other labels, as long as there are images, is cut by nobody and passed whole by nobody."""
    graph = Graph(plain(WIDTHS, lambda c: [nn.Tanh()]), {"a": Branch(Head([8]), ["s2"], towards)})
    with pytest.raises(TaskError, match="hold a list of 4 entries that is no tensor"):
        Engine(graph, Schedule.parse(schedule)).forward_backward(images(), {"a": {"at": [1.0, 2.0, 4.0, 8.0]}})
