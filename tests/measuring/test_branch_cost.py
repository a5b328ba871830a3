"""Branches measured by themselves: what narrow ones cost, and which may be narrow."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.engine.test_narrow import REFUSED, STEP_REFUSED, Grows, graph_of
from tests.zoo import fusion_heads, images, labels, squared
from ubertrain.engine.branch import Branch
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.level import Level
from ubertrain.errors import ScheduleError
from ubertrain.measuring.estimate import estimate
from ubertrain.measuring.rehearse import rehearse
from ubertrain.planning.front import front
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import simulate
from ubertrain.registry import TRUNKS
from ubertrain.tasks.fusion import FusionHead

BOTH = {"low": labels(), "all": labels()}


def ubernet() -> tuple[Graph, Tensor, dict[str, Any]]:
    """VGG-16 with three tasks, each of which scores six levels; one is labelled on one of two small images."""
    trunk = TRUNKS.make("vgg16", "tests", width=0.25, dropout=0.0)
    taps = [trunk.taps[name] for name in ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "fc7")]
    levels = [Level(tap.channels, tap.stride) for tap in taps]
    branches = {
        task: Branch(FusionHead(levels, n), [tap.stage for tap in taps], squared)
        for task, n in zip("abc", (5, 3, 1), strict=True)
    }
    targets = {"a": torch.rand(2, 5, 64, 64), "b": Labels(torch.rand(1, 3, 64, 64), [1]), "c": torch.rand(2, 1, 64, 64)}
    return Graph(trunk.stages(), branches), torch.rand(2, 3, 64, 64), targets


def test_plans_with_narrow_branches_are_never_below_their_rehearsal() -> None:
    """Over the front of such a network, and never more than 1 % above; most of it is narrow."""
    graph, batch, targets = ubernet()
    points = front(estimate(graph, batch, targets, cost="flops"))[::6]
    assert sum(" narrow" in str(point.schedule) for point in points) > len(points) / 2
    for point in points:
        peak = rehearse(graph, point.schedule, batch, targets)
        assert peak <= point.peak_bytes <= peak * 1.01


NARROW = ", ".join(f"{task} narrow" for task in fusion_heads().graph.branches)


@pytest.mark.parametrize("trunk", ["s0 s1 s2", "(s0 s1 s2)", "s0 (s1) s2", "((s0 s1) s2)"])
def test_narrow_branches_are_simulated_above_their_rehearsal(trunk: str) -> None:
    """With labels on some rows only, whose gradients are added into the rows of a sum."""
    case, schedule = fusion_heads(), Schedule.parse(f"{trunk} | {NARROW}")
    chain = estimate(case.graph, case.images, case.targets, cost="flops")
    expected = rehearse(case.graph, schedule, case.images, case.targets)
    assert expected <= simulate(chain, schedule).peak_bytes <= expected * 1.1


def test_one_more_forward_of_what_is_narrow_is_the_price() -> None:
    """In FLOPs: the 1x1 convolutions of three levels of 4, 6 and 8 channels into 3, at 64 pixels, for four images."""
    low, every = estimate(graph_of(), images(), BOTH, cost="flops").branches
    assert every.narrow is not None and low.narrow is not None
    assert every.narrow.work == pytest.approx(2 * 3 * (4 + 6 + 8) * 64 * 4, rel=0.01)
    assert [level.held for level in every.narrow.levels] == [level.gradient for level in every.narrow.levels] == [4 * 3 * 4] * 3


def frozen() -> Graph:
    """Its first tap gets no gradient."""
    graph = graph_of()
    graph.stage("s0").requires_grad_(False)
    return graph


def sharing() -> Graph:
    """Its heads have a parameter in common."""
    graph = graph_of()
    graph.heads["all"].parts[0].weight = graph.heads["low"].parts[0].weight
    return graph


def needing(head: nn.Module) -> Callable[[], Graph]:
    """Makes a graph with a head for `all`."""
    return lambda: graph_of(head)


HEADS = [head for head, error, _ in STEP_REFUSED if error is ScheduleError and not isinstance(head, Grows)] + [
    head for head, _ in REFUSED
]


@pytest.mark.parametrize("build", [frozen, sharing, *map(needing, HEADS)])
def test_a_branch_that_cannot_run_narrow_is_not_planned_so(build: Callable[[], Graph]) -> None:
    """What the engine would refuse, and what gains nothing, has no such cost."""
    assert estimate(build(), images(), BOTH, cost="flops").branches[1].narrow is None
