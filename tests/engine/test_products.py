"""Stages of which only products are kept: what is computed twice, what is held when, and what is refused."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.zoo import Head, conv, images, labels, squared
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.meter import LiveBytes
from ubertrain.engine.product_ops import is_product
from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import Schedule


def block(inside: int, out: int) -> nn.Module:
    """Convolution, batch norm, sigmoid: its product is a third of what plain autograd keeps."""
    return conv(inside, out, nn.BatchNorm2d(out), nn.Sigmoid(), nn.Tanh())


def graph_of(**stages: nn.Module) -> Graph:
    """One task on the last of the stages, which has four channels."""
    return Graph(stages, {"t": Branch(Head([4]), [list(stages)[-1]], squared)})


def three() -> Graph:
    """Three equal blocks."""
    return graph_of(a=block(3, 4), b=block(4, 4), c=block(4, 4))


def step(graph: Graph, schedule: str) -> LiveBytes:
    """The meter after one step."""
    with LiveBytes() as meter:
        Engine(graph, Schedule.parse(schedule)).forward_backward(images(), {"t": labels()})
    return meter


class Convolutions(TorchDispatchMode):
    """Counts convolutions in 3x3, which the stages have and the head has not."""

    count = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.convolution.default and args[1].shape[-1] == 3
        return func(*args, **(kwargs or {}))


COUNTS = [
    ("a b c", 3),
    ("(a) (b) (c)", 6),
    ("[a] [b] [c]", 3),
    ("([a] [b] [c])", 3 + 3),
    ("([a] b) c", 3 + 2),
    ("(([a] b) c)", 3 + 3 + 2),
    ("(([a]) b) c", 3 + 2 + 1),
    ("([a] ([b] c))", 3 + 1 + 2),
]


@pytest.mark.parametrize(("schedule", "count"), COUNTS)
def test_no_product_is_computed_again_once_it_is_kept(schedule: str, count: int) -> None:
    """A stage in brackets is run again without its convolution, also where it is recorded in its span's recompute only."""
    with Convolutions() as convolutions:
        Engine(three(), Schedule.parse(schedule)).forward_backward(images(), {"t": labels()})
    assert convolutions.count == count


def test_keeping_products_takes_less_than_keeping_all_and_more_than_a_span() -> None:
    """By peaks, on stages of which the product is a third."""
    peaks = [step(three(), schedule).peak for schedule in ("(a) (b) (c)", "[a] [b] [c]", "a b c")]
    assert peaks == sorted(set(peaks))


@pytest.mark.parametrize(("span", "bracketed"), [("((a) b) c", "([a] b) c"), ("(((a)) b) c", "(([a]) b) c")])
def test_nothing_is_kept_in_the_first_run_of_a_span(span: str, bracketed: str) -> None:
    """After the first run of a span with brackets inside as many bytes are alive as with a span there."""

    def live_at_c(schedule: str) -> int:
        graph, seen = three(), list[int]()
        with LiveBytes() as meter:
            graph.stage("c").register_forward_pre_hook(lambda *_: seen.append(meter.live))
            Engine(graph, Schedule.parse(schedule)).forward_backward(images(), {"t": labels()})
        return seen[0]

    assert live_at_c(bracketed) == live_at_c(span)


@pytest.mark.parametrize("schedule", ["[a] [b] [c]", "([a] b) [c]", "([a] ([b] c))"])
@pytest.mark.parametrize("frozen", [(), ("a",), ("a", "b", "c")])
def test_products_are_let_go(schedule: str, frozen: tuple[str, ...]) -> None:
    """After a step only its loss is alive, without the garbage collector, also where stages are frozen."""
    graph = three()
    for name in frozen:
        graph.stage(name).requires_grad_(False)
    gc.disable()
    try:
        with LiveBytes() as meter:
            losses = Engine(graph, Schedule.parse(schedule)).forward_backward(images(), {"t": labels()})
    finally:
        gc.enable()
    assert meter.live == 4 * len(losses)


def test_products_of_a_frozen_stage_are_not_kept() -> None:
    """Where no backward will follow, brackets hold no more than the plain stage: its output."""
    graph = three()
    graph.stage("a").requires_grad_(False)
    graph.stage("b").requires_grad_(False)
    assert step(graph, "[a] [b] c").peak == step(graph, "a b c").peak


class Fails(nn.Module):
    """Raises the second time that it is run."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        if self.runs == 2:
            raise RuntimeError("deliberate")
        return x.tanh()


def test_an_exception_in_a_replay_lets_products_go() -> None:
    """Nothing of the step stays alive when the recompute of a bracketed stage fails."""
    graph = graph_of(a=block(3, 4), b=conv(4, 4, Fails()), c=block(4, 4))
    with LiveBytes() as meter:
        with pytest.raises(RuntimeError, match="deliberate"):
            Engine(graph, Schedule.parse("[a] [b] [c]")).forward_backward(images(), {"t": labels()})
        gc.collect()
    assert meter.live == 0


class Pair(nn.Module):
    """A convolution and its tanh, both handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return y, y.tanh()


class Overwrites(nn.Module):
    """Writes into the first of a pair."""

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0].add_(1) * pair[1]


def test_a_product_that_a_later_stage_overwrites_is_refused() -> None:
    """The stage in brackets is named when its product is asked for, in the backward."""
    graph = graph_of(pair=Pair(), over=Overwrites())
    Engine(graph, Schedule.parse("pair over")).forward_backward(images(), {"t": labels()})
    with pytest.raises(ScheduleError, match=r"stage \[pair\] is kept, but then written into"):
        Engine(graph, Schedule.parse("[pair] over")).forward_backward(images(), {"t": labels()})


class Alternates(nn.Module):
    """Convolves with kernels of another size at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.convs = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)])

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.convs[self.calls % 2](x).tanh()


def test_products_that_do_not_repeat_are_named() -> None:
    """A replay that asks for another convolution than was recorded is an error that names the stage."""
    graph = graph_of(a=conv(3, 4), odd=Alternates())
    with pytest.raises(ScheduleError, match=r"span \[odd\] did not do the same again"):
        Engine(graph, Schedule.parse("a [odd]")).forward_backward(images(), {"t": labels()})


class Attention(nn.Module):
    """Attention over pixels, with dropout on its weights and after it."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.qkv = nn.Conv2d(4, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, dim=2)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p)
        return x + F.dropout(mixed, 0.3).transpose(1, 2).unflatten(2, x.shape[2:]).tanh()


@pytest.mark.parametrize("p", [0.0, 0.2])
def test_attention_gives_the_gradients_of_plain_autograd(p: float) -> None:
    """Bit for bit, with dropout before and after."""
    torch.manual_seed(0)
    graph = graph_of(a=conv(3, 4), b=Attention(p), c=Attention(p))
    batch, targets, found = images(), {"t": labels()}, []
    for schedule in ("a b c", "[a] [b] [c]", "([a] [b] c)"):
        graph.zero_grad()
        torch.manual_seed(1)
        Engine(graph, Schedule.parse(schedule)).forward_backward(batch, targets)
        found.append({name: parameter.grad for name, parameter in graph.named_parameters()})
    torch.testing.assert_close(found[1:], found[:1] * 2, rtol=0, atol=0)


@pytest.mark.parametrize(("dropout", "kept"), [(0.0, True), (0.1, False)])
def test_attention_that_draws_random_numbers_is_no_product(dropout: float, kept: bool) -> None:
    """Handing out its output would leave out the draw; given by place or by name."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention.default
    levels = [torch.zeros(1)] * 3
    assert is_product(attention, (*levels, dropout), {}) is kept
    assert is_product(attention, tuple(levels), {"dropout_p": dropout}) is kept


def test_writing_into_a_given_tensor_is_no_product() -> None:
    """Of `mm` only the form that makes its output counts."""
    assert is_product(torch.ops.aten.mm.default, (), {})
    assert not is_product(torch.ops.aten.mm.out, (), {})
    assert not is_product(torch.ops.aten.add.Tensor, (), {})
