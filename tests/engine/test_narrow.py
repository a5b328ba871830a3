"""Branches that hold only what their head makes of each level: when that is made, what stays alive, and where they may not."""

import copy
import gc
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.zoo import BATCH, Head, conv, fusion_heads, images, labels, plain, squared
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ScheduleError, TaskError
from ubertrain.measuring.timeline import rehearse_timeline
from ubertrain.planning.schedule import Schedule

WIDTHS = (4, 6, 8)
BOTH = {"low": labels(), "all": labels()}
NARROW = "low narrow, all narrow"


def graph_of(head: nn.Module | None = None, loss: Any = squared) -> Graph:
    """A task on the first of three stages, and one on all of them, which the arguments concern."""
    trunk = plain(WIDTHS, lambda c: [nn.Sigmoid(), nn.Tanh()])
    branches = {"low": Branch(Head([4]), ["s0"], squared), "all": Branch(head or Head(WIDTHS), ["s0", "s1", "s2"], loss)}
    return Graph(trunk, branches)


def grads(graph: Graph) -> dict[str, Tensor | None]:
    """Every .grad by parameter name."""
    return {name: p.grad for name, p in graph.named_parameters()}


ABOVE = ["narrow all at s0", "forward s1", "narrow all at s1", "forward s2", "narrow all at s2", "branch all"]
AGAIN = ["recompute s0", "recompute s1", "recompute s2"]
ORDERS = [
    (
        f"(s0 s1 s2) | {NARROW}",
        ["forward s0", "narrow low at s0", *ABOVE, "branch low", "pull all at s2", *AGAIN, "backward s2",
         "pull all at s1", "backward s1", "pull all at s0", "pull low at s0", "backward s0"],
    ),
    (
        "s0 (s1) s2 | low late, all narrow",
        ["forward s0", *ABOVE, "pull all at s2", "backward s2", "pull all at s1", "recompute s1", "backward s1",
         "pull all at s0", "branch low", "backward s0"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "expected"), ORDERS)
def test_levels_are_narrowed_in_the_forward_and_again_before_their_stage_is_backpropagated(
    schedule: str, expected: list[str]
) -> None:
    """Branches of a tap last to first, in the order in which plain autograd sums."""
    found = [moment.what for moment in rehearse_timeline(graph_of(), Schedule.parse(schedule), images(), BOTH).timeline]
    assert list(dict.fromkeys(found)) == expected


class Counts(Head):
    """Notes the bytes that are alive when the branch runs."""

    def __init__(self) -> None:
        super().__init__(WIDTHS)
        self.meter, self.seen = LiveBytes(), -1

    def join(self, narrowed: list[Any]) -> Tensor:
        self.seen = self.meter.live
        return super().join(narrowed)


def test_at_the_top_only_what_is_narrow_is_held() -> None:
    """With all stages in a span: the last output, three rows of scores per image, and the scalars that start the backward."""
    head = Counts()
    graph, batch, targets = graph_of(head), images(), {"all": labels()}
    with head.meter:
        Engine(graph, Schedule.parse("(s0 s1 s2) | low, all narrow")).forward_backward(batch, targets)
    assert head.seen == 4 * (BATCH * 8 * 64 + 3 * BATCH * 3 + 3)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("build", [graph_of, lambda: fusion_heads().graph])
def test_scaling_and_autocast_are_those_of_plain_autograd(autocast: torch.dtype | None, build: Callable[[], Graph]) -> None:
    """The bits of scaler.scale(loss).backward(), with the forward's autocast on when levels are narrowed again."""
    ours = build()
    case = fusion_heads()
    batch, targets = (images(), BOTH) if "low" in ours.branches else (case.images, case.targets)
    theirs, schedule = copy.deepcopy(ours), f"(s0 s1) s2 | {', '.join(f'{task} narrow' for task in ours.branches)}"
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        expected = theirs.losses(batch, targets)
    torch.amp.GradScaler("cpu", init_scale=1024.0).scale(sum(expected.values())).backward()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        losses = Engine(ours, Schedule.parse(schedule)).forward_backward(batch, targets, scaler=scaler)
    torch.testing.assert_close(grads(ours), grads(theirs), rtol=0, atol=0)
    torch.testing.assert_close(losses, {t: loss.detach() for t, loss in expected.items()}, rtol=0, atol=0)


@pytest.mark.parametrize("schedule", [f"s0 s1 s2 | {NARROW}", f"(s0 s1) [s2] | {NARROW}"])
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


class Breaks(Head):
    """Raises in the first or second run of `narrow`, in the backward of that, or in `join`."""

    def __init__(self, where: str) -> None:
        super().__init__(WIDTHS)
        self.where, self.joined = where, False

    def narrow(self, place: int, level: Any) -> Any:
        if self.where == ("again" if self.joined else "first") and place == 1:
            raise KeyError("deliberate")
        if self.where == "backward" and self.joined:
            level.register_hook(self.fail)
        return super().narrow(place, level)

    def join(self, narrowed: list[Any]) -> Tensor:
        if self.where == "join":
            raise KeyError("deliberate")
        self.joined = True
        return super().join(narrowed)

    def fail(self, gradient: Tensor) -> None:
        raise KeyError("deliberate")


@pytest.mark.parametrize("where", ["first", "again", "backward", "join"])
@pytest.mark.parametrize("schedule", [f"s0 s1 s2 | {NARROW}", f"(s0 s1) s2 | {NARROW}", f"[s0] [s1] s2 | {NARROW}"])
def test_an_exception_in_a_narrow_branch_comes_out_as_it_is(where: str, schedule: str) -> None:
    """Its type is kept, every .grad is what it was, and nothing of the step stays alive."""
    graph = graph_of(Breaks(where))
    weight = graph.heads["low"].parts[0].weight
    weight.grad = held = torch.ones_like(weight)
    with LiveBytes() as meter:
        with pytest.raises(KeyError, match="deliberate"):
            Engine(graph, Schedule.parse(schedule)).forward_backward(images(), BOTH)
        gc.collect()
    assert weight.grad is held and torch.equal(held, torch.ones_like(weight))
    assert [name for name, gradient in grads(graph).items() if gradient is not None] == ["heads.low.parts.0.weight"]
    assert meter.live == 0


class Draws(Head):
    """Drops features of every level."""

    def narrow(self, place: int, level: Any) -> Any:
        return super().narrow(place, nn.functional.dropout(level, 0.5))


class DrawsOnTheHost(Head):
    """Scales every level by a number that Python or numpy draws."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__(WIDTHS)
        self.draw = draw

    def narrow(self, place: int, level: Any) -> Any:
        return super().narrow(place, level) * self.draw()


class NormsUncounted(Head):
    """Moves its buffers by a function, which the counts of writes do not show."""

    couples_images = True

    def __init__(self) -> None:
        super().__init__(WIDTHS)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def narrow(self, place: int, level: Any) -> Any:
        return nn.functional.batch_norm(super().narrow(place, level), self.mean, self.var, training=True)


class GivesTwice(Head):
    """Gives one tensor in two places."""

    def narrow(self, place: int, level: Any) -> Any:
        scores = super().narrow(place, level)
        return scores, scores

    def join(self, narrowed: list[Any]) -> Tensor:
        return super().join([left * right.cos() for left, right in narrowed])


class Attends(Head):
    """A transformer layer without dropout on every level, which without a graph takes a fused path."""

    def __init__(self) -> None:
        super().__init__(WIDTHS)
        layer = partial(nn.TransformerEncoderLayer, dim_feedforward=16, dropout=0.0, batch_first=True)
        self.layers = nn.ModuleList(layer(c, 2) for c in WIDTHS)

    def narrow(self, place: int, level: Any) -> Any:
        tokens = self.layers[place](level.flatten(2).transpose(1, 2))
        return super().narrow(place, tokens.transpose(1, 2).unflatten(2, level.shape[2:]))


class Norms(Head):
    """Batch norm on every level."""

    def __init__(self) -> None:
        super().__init__(WIDTHS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in WIDTHS)

    def narrow(self, place: int, level: Any) -> Any:
        return super().narrow(place, self.norms[place](level))


class Writes(Head):
    """Changes its levels."""

    def narrow(self, place: int, level: Any) -> Any:
        return super().narrow(place, level.mul_(2))


class OneScale(Head):
    """One learned scale for all levels."""

    def __init__(self) -> None:
        super().__init__(WIDTHS)
        self.scale = nn.Parameter(torch.ones(()))

    def narrow(self, place: int, level: Any) -> Any:
        return super().narrow(place, level) * self.scale


class Grows(Head):
    """Gives something else the second time."""

    copies = 1

    def narrow(self, place: int, level: Any) -> Any:
        return torch.cat([super().narrow(place, level)] * self.copies)

    def join(self, narrowed: list[Any]) -> Tensor:
        self.copies = 2
        return super().join(narrowed)


class Hands(Head):
    """Hands a part of its level on."""

    def narrow(self, place: int, level: Any) -> Any:
        return level[:, :1]

    def join(self, narrowed: list[Any]) -> Tensor:
        return super().join([part.mean((2, 3)).expand(-1, 3) for part in narrowed])


STEP_REFUSED = [
    (Hands(WIDTHS), ScheduleError, r"narrow\(0, level\) of the head of task 'all' gives a view of the level"),
    (Draws(WIDTHS), ScheduleError, r"narrow\(0, level\) of the head of task 'all' draws random numbers"),
    (
        DrawsOnTheHost(lambda: random.random()),
        ScheduleError,
        r"narrow\(0, level\) of the head of task 'all' draws random numbers of",
    ),
    (
        DrawsOnTheHost(lambda: np.random.rand()),
        ScheduleError,
        r"narrow\(0, level\) of the head of task 'all' draws random numbers of",
    ),
    (NormsUncounted(), ScheduleError, r"narrow\(0, level\) of the head of task 'all' moves buffers"),
    (GivesTwice(WIDTHS), ScheduleError, r"narrow\(0, level\) of the head of task 'all' gives one tensor twice"),
    (Norms(), ScheduleError, r"narrow\(0, level\) of the head of task 'all' moves buffers"),
    (Writes(WIDTHS), TaskError, r"narrow\(0, level\) of the head of task 'all' writes in place"),
    (OneScale(), ScheduleError, "'all' cannot run narrow: its head uses a parameter for several levels"),
    (Grows(WIDTHS), ScheduleError, "did not give the same shapes again"),
]


@pytest.mark.parametrize(("head", "error", "message"), STEP_REFUSED)
def test_a_head_that_cannot_narrow_twice_is_refused(head: nn.Module, error: type[Exception], message: str) -> None:
    """What only a run can tell is an error of the step, never another gradient."""
    with pytest.raises(error, match=message):
        Engine(graph_of(head), Schedule.parse(f"s0 s1 s2 | {NARROW}")).forward_backward(images(), BOTH)


@pytest.mark.parametrize("head", [Norms().eval(), Attends(), Attends().eval()])
def test_a_head_that_draws_and_moves_nothing_gives_the_bits_of_plain_autograd(head: nn.Module) -> None:
    """Batch norm that stands still and attention that drops nothing are no reason to refuse."""
    ours = graph_of(head)
    theirs, batch = copy.deepcopy(ours), images()
    sum(theirs.losses(batch, BOTH).values()).backward()
    Engine(ours, Schedule.parse(f"(s0 s1) s2 | {NARROW}")).forward_backward(batch, BOTH)
    torch.testing.assert_close(grads(ours), grads(theirs), rtol=0, atol=0)


class OwnForward(Head):
    """Inherits how to narrow, but does something else."""

    def forward(self, levels: list[Any]) -> Tensor:
        return 2 * super().forward(levels)


class NoNarrow(nn.Module):
    """A head that only runs as a whole."""

    def forward(self, levels: list[Any]) -> Tensor:
        return levels[0].mean((2, 3))[:, :3]


def hooked() -> Head:
    """A head with a hook."""
    head = Head(WIDTHS)
    head.register_forward_hook(lambda *_: None)
    return head


REFUSED = [
    (NoNarrow(), "its head NoNarrow has no narrow"),
    (OwnForward(WIDTHS), "OwnForward has a forward of its own"),
    (hooked(), "its head has hooks"),
]


@pytest.mark.parametrize(("head", "message"), REFUSED)
def test_a_head_that_cannot_be_taken_apart_is_refused(head: nn.Module, message: str) -> None:
    """When the engine is made."""
    with pytest.raises(ScheduleError, match=f"branch 'all' cannot run narrow: {message}"):
        Engine(graph_of(head), Schedule.parse(f"s0 s1 s2 | {NARROW}"))


def test_a_loss_that_needs_its_head_is_refused() -> None:
    """It may do with the levels what it likes."""
    graph = graph_of()
    graph.branches["all"] = Branch(
        graph.heads["all"], ["s0"], losses=lambda head, levels, target: squared(head(levels), target)
    )
    with pytest.raises(ScheduleError, match="its loss needs the head"):
        Engine(graph, Schedule.parse(f"s0 s1 s2 | {NARROW}"))


def test_shared_parameters_are_refused() -> None:
    """Their gradients would be summed in another order."""
    graph = graph_of()
    graph.heads["all"].parts[0].weight = graph.heads["low"].parts[0].weight
    with pytest.raises(ScheduleError, match="'low' cannot run narrow: it shares parameters or buffers with all"):
        Engine(graph, Schedule.parse(f"s0 s1 s2 | {NARROW}"))


@pytest.mark.parametrize("branches", ["low, all narrow", "low narrow, all"])
def test_all_that_read_a_tap_must_read_it_at_one_time(branches: str) -> None:
    """Narrow or late, or before the trunk's backward, where both are labelled; the tap is named."""
    engine = Engine(graph_of(), Schedule.parse(f"s0 s1 s2 | {branches}"))
    with pytest.raises(ScheduleError, match="cannot run narrow while .* reads 's0' before the trunk's backward"):
        engine.forward_backward(images(), BOTH)
    engine.forward_backward(images(), {"all": Labels(labels(1), [2])})


@pytest.mark.parametrize("schedule", [f"s0 s1 s2 | {NARROW}", f"(s0 s1) s2 | {NARROW}"])
def test_overwriting_a_tap_is_refused(schedule: str) -> None:
    """Stage and tap are named."""
    graph = graph_of()
    graph.trunk["s1"] = nn.Sequential(nn.ReLU(inplace=True), *conv(4, 6))
    with pytest.raises(ScheduleError, match="'s1' writes in place into tap 's0'"):
        Engine(graph, Schedule.parse(schedule)).forward_backward(images(), BOTH)
