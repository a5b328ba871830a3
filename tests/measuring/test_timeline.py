"""Moments of a step: what they are called, and that they add up to the rehearsal."""

import pytest
import torch
from torch import nn

from tests.engine.test_exactness import build, refused
from tests.zoo import ZOO, Head, images, labels, plain, schedules, squared
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.measuring.rehearse import rehearse
from ubertrain.measuring.timeline import Recorder, rehearse_timeline
from ubertrain.planning.schedule import Schedule

WIDTHS = (4, 6, 8)
BOTH = {"low": labels(), "top": labels()}


def graph_of() -> Graph:
    """A task on the first of three stages, and one on the last."""
    trunk = plain(WIDTHS, lambda c: [nn.GroupNorm(2, c), nn.Sigmoid()])
    return Graph(trunk, {"low": Branch(Head([4]), ["s0"], squared), "top": Branch(Head([8]), ["s2"], squared)})


FORWARD = ["forward s0", "forward s1", "forward s2"]
EARLY = [*FORWARD, "branch top", "branch low"]
MOMENTS = [
    ("s0 s1 s2 | low, top", [*EARLY, "backward s2", "backward s1", "backward s0"]),
    (
        "(s0 s1) [s2] | low, top",
        [*EARLY, "recompute s2", "backward s2", "recompute s0", "recompute s1", "backward s1", "backward s0"],
    ),
    (
        "s0 (s1) s2 | low late, top",
        [*FORWARD, "branch top", "backward s2", "recompute s1", "backward s1", "branch low", "backward s0"],
    ),
]


@pytest.mark.parametrize(("schedule", "expected"), MOMENTS)
def test_moments_are_what_the_schedule_says(schedule: str, expected: list[str]) -> None:
    """In order; a backward that waits for a recompute begins after it."""
    found = [moment.what for moment in rehearse_timeline(graph_of(), Schedule.parse(schedule), images(), BOTH).timeline]
    assert list(dict.fromkeys(found)) == expected


NOT_REHEARSED = {"batch_norm_cumulative", "recurrent_stage"}
"""The first needs values; torch's fake LSTM holds more the second time that it is run."""


@pytest.mark.parametrize("name", sorted(set(ZOO) - NOT_REHEARSED))
def test_the_peak_of_the_timeline_is_the_rehearsed_one(name: str) -> None:
    """Over the zoo, to the byte, in an allocator's units; no moment ends above its own peak."""
    case = build(name)
    for schedule in list(schedules(case.graph))[1::8]:
        if refused(name, str(schedule)):
            continue
        with case.forward_context():
            expected = rehearse(case.graph, schedule, case.images, case.targets, rounding=512)
            found = rehearse_timeline(case.graph, schedule, case.images, case.targets, rounding=512)
        assert found.peak_bytes == found.at_peak.peak_bytes == expected
        assert all(moment.live_bytes <= moment.peak_bytes for moment in found.timeline)


@pytest.mark.parametrize("schedule", ["s0 s1 s2 | low, top", "([s0] s1) [s2] | low late, top", "rows=2 (s0 s1) s2 | low, top"])
def test_the_rehearsed_timeline_is_the_measured_one(schedule: str) -> None:
    """Moment by moment, to the byte."""
    graph, batch = graph_of(), images()
    expected = rehearse_timeline(graph, Schedule.parse(schedule), batch, BOTH)
    with Recorder() as recorder:
        Engine(graph, Schedule.parse(schedule), watch=recorder).forward_backward(batch, BOTH)
    assert recorder.timeline() == expected


def test_the_highest_moment_is_where_the_memory_is_needed() -> None:
    """A branch with a wide hidden layer is the peak, not the trunk."""
    graph = graph_of()
    wide = nn.Sequential(nn.Conv2d(4, 400, 1), nn.Tanh(), nn.Conv2d(400, 4, 1))
    graph.heads["low"] = nn.Sequential(First(wide), Head([4]))
    found = rehearse_timeline(graph, Schedule.parse("s0 s1 s2"), images(), BOTH)
    assert found.at_peak.what == "branch low"
    assert found.peak_bytes > 2 * 4 * 400 * 64 * 4


class First(nn.Module):
    """Applies a module to the first level."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.module(levels[0])]
