"""Heads of several stages: what they promise beyond exact gradients, which the zoo is about, and what is refused."""

import copy
import gc
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import Head, Only, Score, conv, images, labels, plain, squared
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.heads import head_stages
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import Schedule

WIDTHS = (4, 6)


def head_of(*extra: nn.Module) -> nn.Sequential:
    """A wide head of stages 0 to 3, and more behind them; its images are apart."""
    layers = conv(6, 32, nn.GroupNorm(4, 32), nn.ReLU(True)), conv(32, 32, nn.GroupNorm(4, 32), nn.Tanh())
    return nn.Sequential(Only(), *layers, *extra, Score(32))


def graph_of(head: nn.Module | None = None) -> Graph:
    """A task with such a head on the last of two stages, and one on the first."""
    heads = {"low": Branch(Head([4]), ["s0"], squared), "top": Branch(head_of() if head is None else head, ["s1"], squared)}
    return Graph(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)]), heads)


def grads(graph: Graph) -> dict[str, Tensor | None]:
    """Every .grad by parameter name."""
    return {name: p.grad for name, p in graph.named_parameters()}


BOTH = {"low": labels(), "top": labels()}


def peak_of(schedule: str) -> int:
    """Measured bytes of one step."""
    graph = graph_of()
    with LiveBytes() as meter:
        Engine(graph, Schedule.parse(schedule)).forward_backward(images(), BOTH)
    return meter.peak


def test_spans_in_a_head_take_less_memory() -> None:
    """Of a head whose stages are recomputed one at a time only one is alive."""
    whole, kept, nested = (peak_of(f"s0 s1 | low, top{head}") for head in ("", ": 0 1 2 3", ": 0 (1) (2) 3"))
    assert whole == kept
    assert nested < 0.9 * whole


def test_rows_and_spans_go_together() -> None:
    """Half the rows at a time, each part recomputed: the gradient of the whole, in less memory than either alone."""
    whole = graph_of().double()
    split, batch, targets = copy.deepcopy(whole), images().double(), {task: part.double() for task, part in BOTH.items()}
    left = Engine(whole, Schedule.parse("s0 s1 | low, top")).forward_backward(batch, targets)
    right = Engine(split, Schedule.parse("s0 s1 | low, top rows=2: 0 (1) [2] 3")).forward_backward(batch, targets)
    torch.testing.assert_close(right, left, rtol=1e-6, atol=0)
    torch.testing.assert_close(grads(split), grads(whole), rtol=1e-6, atol=1e-12)
    both = peak_of("s0 s1 | low, top rows=2: 0 (1) (2) 3")
    assert both < min(peak_of("s0 s1 | low, top rows=2"), peak_of("s0 s1 | low, top: 0 (1) (2) 3"))


@pytest.mark.parametrize("run", ["top: 0 (1 2) 3", "top late: (0 ([1] 2)) 3"])
def test_a_step_frees_without_the_garbage_collector(run: str) -> None:
    """After a step only its losses are alive."""
    graph = graph_of()
    gc.disable()
    try:
        with LiveBytes() as meter:
            losses = Engine(graph, Schedule.parse(f"s0 (s1) | low, {run}")).forward_backward(images(), BOTH)
    finally:
        gc.enable()
    assert meter.live == 4 * len(losses)


class Fails(nn.Module):
    """Raises in its first forward, when it is recomputed, or in its backward."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.runs = where, 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        if self.where == ("first" if self.runs == 1 else "again"):
            raise KeyError("deliberate")
        if self.where == "backward" and x.requires_grad:
            x.register_hook(self.fail)
        return x.cos()

    def fail(self, gradient: Tensor) -> None:
        raise KeyError("deliberate")


@pytest.mark.parametrize("where", ["first", "again", "backward"])
@pytest.mark.parametrize("run", ["top: 0 (1 (2 3)) 4", "top late: 0 (1 2 3) 4", "top: ((0 1) 2 3) 4"])
def test_an_exception_in_a_stage_of_a_head_comes_out_as_it_is(where: str, run: str) -> None:
    """Its type is kept, every .grad is what it was, and nothing of the step stays alive."""
    graph = graph_of(head_of(Fails(where)))
    weight = graph.heads["low"].parts[0].weight
    weight.grad = held = torch.ones_like(weight)
    with LiveBytes() as meter:
        with pytest.raises(KeyError, match="deliberate"):
            Engine(graph, Schedule.parse(f"s0 (s1) | low, {run}")).forward_backward(images(), BOTH)
        gc.collect()
    assert weight.grad is held and torch.equal(held, torch.ones_like(weight))
    assert [name for name, gradient in grads(graph).items() if gradient is not None] == ["heads.low.parts.0.weight"]
    assert meter.live == 0


class Grows(nn.Module):
    """Saves more when it runs again."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return x.cos() if self.runs == 1 else torch.cat([x, x]).cos()[: len(x)]


@pytest.mark.parametrize("late", ["", " late"])
def test_a_stage_that_does_not_repeat_itself_is_named_with_its_task(late: str) -> None:
    """The span, and the head that it is in, also where the branch runs inside the trunk's backward."""
    engine = Engine(graph_of(head_of(Grows())), Schedule.parse(f"s0 (s1) | low, top{late}: 0 1 (2 3) 4"))
    with pytest.raises(ScheduleError, match=re.escape("in the head of task 'top': span (2 3) did not do the same again")):
        engine.forward_backward(images(), BOTH)


def test_the_children_of_a_stage_may_be_named_too() -> None:
    """As in a trunk, for a stage that is an nn.Sequential."""
    ours = graph_of()
    theirs, batch = copy.deepcopy(ours), images()
    sum(theirs.losses(batch, BOTH).values()).backward()
    Engine(ours, Schedule.parse("s0 s1 | low, top: 0 (1.0 1.1) 1.2 (2) 3")).forward_backward(batch, BOTH)
    torch.testing.assert_close(grads(ours), grads(theirs), rtol=0, atol=0)


class Doubled(nn.Sequential):
    """Does more than its children."""

    def forward(self, levels: Any) -> Any:
        return 2 * super().forward(levels)


def hooked() -> nn.Module:
    """A head with a hook."""
    head = head_of()
    head.register_forward_hook(lambda *_: None)
    return head


NO_STAGES = [Head([6]), Doubled(*head_of()), hooked(), nn.Sequential()]


@pytest.mark.parametrize("head", NO_STAGES)
def test_a_head_that_is_more_than_its_children_has_no_stages(head: nn.Module) -> None:
    """It runs as one, and a schedule that says otherwise is refused."""
    graph = graph_of(head)
    assert head_stages(graph, "top") == ()
    with pytest.raises(ScheduleError, match="branch 'top' cannot run its head stage by stage"):
        Engine(graph, Schedule.parse("s0 s1 | low, top: 0 1"))


def test_a_loss_that_needs_its_head_is_refused() -> None:
    """It may do with the levels what it likes."""
    graph = graph_of()
    graph.branches["top"] = Branch(graph.heads["top"], ["s1"], losses=lambda head, levels, target: head(levels).sum(1))
    with pytest.raises(ScheduleError, match="its loss needs the head"):
        Engine(graph, Schedule.parse("s0 s1 | low, top: 0 (1 2) 3"))


WRONG = [
    ("0 1 3", "does not go on with stage '2': '3' stands there; it is: 0 1 2 3"),
    ("0 (1 2)", "does not go on with stage '3': it ends there"),
    ("0 1 2 3 4", "names '4' after the end of its head"),
    ("1 0 2 3", "does not go on with stage '0'"),
]


@pytest.mark.parametrize(("items", "message"), WRONG)
def test_all_stages_of_a_head_are_named_in_order(items: str, message: str) -> None:
    """When the engine is made."""
    with pytest.raises(ScheduleError, match=re.escape(message)):
        Engine(graph_of(), Schedule.parse(f"s0 s1 | low, top: {items}"))
