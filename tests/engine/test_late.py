"""Branches that run inside the trunk's backward: when, on what memory, and where they may not."""

import copy
import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import BATCH, Head, conv, images, labels, plain, squared
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ScheduleError, TaskError
from ubertrain.planning.schedule import Schedule

WIDTHS = (4, 6, 8)
BOTH = {"low": labels(), "top": labels()}


def graph_of(low: nn.Module | None = None, loss: Any = squared) -> Graph:
    """A task on the first of three stages, and one on the last."""
    trunk = plain(WIDTHS, lambda c: [nn.Sigmoid(), nn.Tanh()])
    return Graph(trunk, {"low": Branch(low or Head([4]), ["s0"], loss), "top": Branch(Head([8]), ["s2"], squared)})


def grads(graph: Graph) -> dict[str, Tensor | None]:
    """Every .grad by parameter name."""
    return {name: p.grad for name, p in graph.named_parameters()}


ORDERS = [
    ("s0 s1 s2 | low late, top", "s0 s1 s2 top low"),
    ("s0 s1 s2 | low late, top late", "s0 s1 s2 top low"),
    ("(s0) (s1) (s2) | low late, top", "s0 s1 s2 top s2 s1 low s0"),
    ("(s0 s1) (s2) | low late, top", "s0 s1 s2 top s2 s0 s1 low"),
    ("(s0 s1 s2) | low late, top late", "s0 s1 s2 top s0 s1 s2 low"),
    ("((s0 s1) s2) | low late, top", "s0 s1 s2 top s0 s1 s2 s0 s1 low"),
    ("[s0] [s1] [s2] | low late, top", "s0 s1 s2 top s2 s1 low s0"),
    ("(s0) (s1) (s2) | low, top", "s0 s1 s2 top low s2 s1 s0"),
]


@pytest.mark.parametrize(("schedule", "order"), ORDERS)
def test_a_late_branch_runs_just_before_its_stage_is_backpropagated(schedule: str, order: str) -> None:
    """After the recompute of all above its tap, and before that of its stage where that is a span of its own."""
    ran: list[str] = []
    graph = graph_of()
    for name, module in [*((n, graph.stage(n)) for n in graph.stage_names), *graph.heads.items()]:
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    losses = Engine(graph, Schedule.parse(schedule)).forward_backward(images(), BOTH)
    assert ran == order.split()
    assert list(losses) == ["low", "top"]


def test_late_branches_of_one_tap_run_last_to_first() -> None:
    """In the order in which plain autograd sums their gradients."""
    ran: list[str] = []
    graph = Graph(plain(WIDTHS, lambda c: [nn.Tanh()]), {t: Branch(Head([6]), ["s1"], squared) for t in "abc"})
    for name, head in graph.heads.items():
        head.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    Engine(graph, Schedule.parse("s0 (s1) s2 | a late, b late, c late")).forward_backward(images(), {t: labels() for t in "ac"})
    assert ran == ["c", "a"]


def live_at_the_top(schedule: str, targets: dict[str, Any]) -> int:
    """Bytes alive when the head of `top` is called."""
    graph, seen = graph_of(), list[int]()
    with LiveBytes() as meter:
        graph.heads["top"].register_forward_pre_hook(lambda *_: seen.append(meter.live))
        Engine(graph, Schedule.parse(schedule)).forward_backward(images(), targets)
    return seen[0]


def test_a_late_tap_is_not_held_at_the_top() -> None:
    """With its tap inside a span a late task holds one number, from which its backward starts; an early one its tap."""
    without = live_at_the_top("(s0 s1 s2) | low, top", {"top": labels()})
    assert live_at_the_top("(s0 s1 s2) | low late, top", BOTH) == without + 4
    assert live_at_the_top("(s0 s1 s2) | low late, top", {"top": labels()}) == without
    tap = BATCH * 4 * 8 * 8 * 4
    assert live_at_the_top("(s0 s1 s2) | low, top", BOTH) == without + tap


@pytest.mark.parametrize("names", [("trunk",), ("trunk.s0",)])
def test_on_a_frozen_tap_a_late_branch_runs_at_the_top(names: tuple[str, ...]) -> None:
    """No gradient comes by there; its head is trained all the same."""
    graph = graph_of()
    for name in names:
        graph.get_submodule(name).requires_grad_(False)
    theirs = copy.deepcopy(graph)
    batch = images()
    sum(theirs.losses(batch, BOTH).values()).backward()
    Engine(graph, Schedule.parse("(s0) (s1) s2 | low late, top late")).forward_backward(batch, BOTH)
    torch.testing.assert_close(grads(graph), grads(theirs), rtol=0, atol=0)


class NoUse(nn.Module):
    """Hands on something that its input has no part in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.expand(len(x), -1, 8, 8) * 2


@pytest.mark.parametrize("schedule", ["s0 s1 | low late, top", "(s0 s1) | low late, top", "(s0) (s1) | low late, top late"])
def test_a_late_branch_runs_although_nothing_comes_from_above(schedule: str) -> None:
    """Its own gradient is all that its stage gets."""
    trunk = {"s0": conv(3, 4, nn.Tanh()), "s1": NoUse()}
    graph = Graph(trunk, {"low": Branch(Head([4]), ["s0"], squared), "top": Branch(Head([8]), ["s1"], squared)})
    theirs = copy.deepcopy(graph)
    batch = images()
    sum(theirs.losses(batch, BOTH).values()).backward()
    Engine(graph, Schedule.parse(schedule)).forward_backward(batch, BOTH)
    torch.testing.assert_close(grads(graph), grads(theirs), rtol=0, atol=0)
    assert graph.stage("s0")[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_scaling_and_autocast_are_those_of_the_top(autocast: torch.dtype | None) -> None:
    """The bits of scaler.scale(loss).backward(), with the forward's autocast on in the late branch."""
    ours = graph_of()
    theirs, batch = copy.deepcopy(ours), images()
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        expected = theirs.losses(batch, BOTH)
    torch.amp.GradScaler("cpu", init_scale=1024.0).scale(sum(expected.values())).backward()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        losses = Engine(ours, Schedule.parse("(s0 s1) (s2) | low late, top late")).forward_backward(batch, BOTH, scaler=scaler)
    torch.testing.assert_close(grads(ours), grads(theirs), rtol=0, atol=0)
    torch.testing.assert_close(losses, {t: loss.detach() for t, loss in expected.items()}, rtol=0, atol=0)


def test_a_late_branch_in_parts_gives_the_gradient_of_the_whole() -> None:
    """`rows=2 late` differs by rounding only, with three scattered rows."""
    whole = graph_of().double()
    split, batch = copy.deepcopy(whole), images().double()
    targets = {"low": Labels(labels(3).double(), [3, 0, 2]), "top": labels().double()}
    Engine(whole, Schedule.parse("(s0 s1) s2 | low, top")).forward_backward(batch, targets)
    Engine(split, Schedule.parse("(s0 s1) s2 | low rows=2 late, top")).forward_backward(batch, targets)
    torch.testing.assert_close(grads(split), grads(whole), rtol=1e-6, atol=1e-12)


def test_the_random_numbers_of_a_late_branch_are_its_own() -> None:
    """Dropout in heads draws what plain autograd draws, and the global random numbers go on as there."""
    ours = graph_of(Head([4], extra=nn.Dropout(0.5)))
    theirs, batch, states = copy.deepcopy(ours), images(), []
    for graph in (ours, theirs):
        torch.manual_seed(5)
        if graph is ours:
            Engine(graph, Schedule.parse("(s0 s1) s2 | low late, top")).forward_backward(batch, BOTH)
        else:
            sum(graph.losses(batch, BOTH).values()).backward()
        states.append(torch.get_rng_state())
    torch.testing.assert_close(grads(ours), grads(theirs), rtol=0, atol=0)
    assert torch.equal(*states)


class Fails(nn.Module):
    """Raises in its forward or in its backward."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "forward":
            raise KeyError("deliberate")
        x.register_hook(self.fail)
        return x

    def fail(self, gradient: Tensor) -> None:
        raise KeyError("deliberate")


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("schedule", ["s0 s1 s2 | low late, top", "(s0 s1) s2 | low late, top", "[s0] [s1] s2 | low late, top"])
def test_an_exception_in_a_late_branch_comes_out_as_it_is(where: str, schedule: str) -> None:
    """Its type is kept, every .grad is what it was, and nothing of the step stays alive."""
    graph = graph_of(Head([4], extra=Fails(where)))
    weight = graph.heads["top"].parts[0].weight
    weight.grad = held = torch.ones_like(weight)
    with LiveBytes() as meter:
        with pytest.raises(KeyError, match="deliberate"):
            Engine(graph, Schedule.parse(schedule)).forward_backward(images(), BOTH)
        gc.collect()
    assert weight.grad is held and torch.equal(held, torch.ones_like(weight))
    assert [name for name, gradient in grads(graph).items() if gradient is not None] == ["heads.top.parts.0.weight"]
    assert meter.live == 0


def test_a_wrong_loss_of_a_late_branch_is_a_task_error() -> None:
    """As at the top."""
    graph = graph_of(loss=lambda p, t: p)
    with pytest.raises(TaskError, match="task 'low': the loss must be one floating-point value"):
        Engine(graph, Schedule.parse("s0 s1 s2 | low late, top")).forward_backward(images(), BOTH)


@pytest.mark.parametrize("schedule", ["s0 s1 s2 | low late, top late", "(s0 s1) [s2] | low late, top"])
def test_a_step_frees_without_the_garbage_collector(schedule: str) -> None:
    """After a step only its losses are alive."""
    graph = graph_of()
    gc.disable()
    try:
        with LiveBytes() as meter:
            losses = Engine(graph, Schedule.parse(schedule)).forward_backward(images(), BOTH)
    finally:
        gc.enable()
    assert meter.live == 4 * len(losses)


class Adds(nn.Module):
    """Writes into its input, or into the first of a pair that it is handed."""

    def forward(self, value: Any) -> Tensor:
        return value.add_(1) if isinstance(value, Tensor) else value[0].add_(1) * value[1]


class Pair(nn.Module):
    """Hands its input on, and something new."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.sigmoid()


@pytest.mark.parametrize("schedule", ["a b | t late", "(a b) | t late"])
def test_overwriting_a_late_tap_is_refused(schedule: str) -> None:
    """Where the next stage does it, stage and tap are named."""
    graph = Graph(
        {"a": conv(3, 4), "b": Adds()}, {"t": Branch(Head([4]), ["a"], squared), "u": Branch(Head([4]), ["b"], squared)}
    )
    with pytest.raises(ScheduleError, match="'b' writes in place into tap 'a'"):
        Engine(graph, Schedule.parse(f"{schedule}, u")).forward_backward(images(), {"t": labels(), "u": labels()})


def test_overwriting_a_late_tap_that_was_handed_on_is_refused() -> None:
    """Where a later stage does it inside a span, whose recompute does it again, the tap is named."""
    trunk = {"a": conv(3, 4), "pair": Pair(), "c": Adds()}
    graph = Graph(trunk, {"t": Branch(Head([4]), ["a"], squared), "u": Branch(Head([4]), ["c"], squared)})
    with pytest.raises(ScheduleError, match="writes in place into tap 'a', which late branches"):
        Engine(graph, Schedule.parse("(a pair c) | t late, u")).forward_backward(images(), {"t": labels(), "u": labels()})


def shared_parts() -> Graph:
    """Branches that share a linear layer (a, b), one that shares with the trunk (c), and two on one tap (d, e)."""
    linear, trunk = nn.Linear(3, 3), plain(WIDTHS, lambda c: [nn.Tanh()])
    branches = {t: Branch(Head([8], extra=linear), ["s2"], squared) for t in "ab"}
    head = Head([4])
    head.parts[0] = nn.Conv2d(4, 6, 3, padding=1)
    head.parts[0].weight = trunk["s1"][0].weight
    branches |= {"c": Branch(head, ["s0"], squared)}
    return Graph(trunk, branches | {"d": Branch(Head([6]), ["s1"], squared), "e": Branch(Head([4, 6]), ["s0", "s1"], squared)})


REFUSED = [
    ("a late, b late, c, d, e", "'a' cannot run late: it shares parameters or buffers with b"),
    ("a, b, c late, d, e", "'c' cannot run late: it shares parameters or buffers with the trunk"),
    ("a, b, c, d late, e", "'d' cannot run late while e reads 's1'"),
    ("a, b, c, d, e late", "'e' cannot run late: it reads 2 taps, s0, s1"),
]


@pytest.mark.parametrize(("branches", "message"), REFUSED)
def test_a_branch_that_would_change_the_order_of_sums_is_refused(branches: str, message: str) -> None:
    """Several taps, an early reader of the same tap, and shared parameters are named before anything runs."""
    with pytest.raises(ScheduleError, match=message):
        Engine(shared_parts(), Schedule.parse(f"s0 s1 s2 | {branches}")).forward_backward(images(), {t: labels() for t in "de"})


def test_a_branch_without_labels_may_be_written_in_any_way() -> None:
    """It sends no gradient to the tap that another reads late."""
    ours, batch = shared_parts(), images()
    theirs = copy.deepcopy(ours)
    targets = {"d": labels()}
    sum(theirs.losses(batch, targets).values()).backward()
    Engine(ours, Schedule.parse("s0 (s1) s2 | a, b, c, d late, e")).forward_backward(batch, targets)
    torch.testing.assert_close(grads(ours), grads(theirs), rtol=0, atol=0)
