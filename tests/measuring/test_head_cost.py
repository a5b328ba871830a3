"""Heads of several stages, measured and planned: what is said of them holds in fact, and smaller budgets become feasible."""

import copy
import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.engine.test_exactness import build
from tests.zoo import Case, Only, conv, squared, staged
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ScheduleError
from ubertrain.measuring.estimate import estimate
from ubertrain.measuring.fingerprint import fingerprint
from ubertrain.measuring.fit import fit
from ubertrain.measuring.rehearse import rehearse
from ubertrain.planning.chain import Chain
from ubertrain.planning.front import front
from ubertrain.planning.plan import plan
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import by_stages, simulate


def chain_of(case: Case) -> Chain:
    """In FLOPs."""
    with case.forward_context():
        return estimate(case.graph, case.images, case.targets, cost="flops")


def unit(inside: int, out: int, norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    """A convolution of three pixels with a norm and a GELU."""
    return conv(inside, out, norm(out) if norm is nn.BatchNorm2d else nn.GroupNorm(4, out), nn.GELU())


def dense(norm: type[nn.Module] = nn.BatchNorm2d, *, staged: bool = True) -> Case:
    """A small trunk with two dense tasks, each of four hidden layers of 32 channels and scores four times as large."""

    def head(channels: int) -> nn.Module:
        hidden = unit(8, 32, norm), *(unit(32, 32, norm) for _ in range(3))
        made = nn.Sequential(Only(), *hidden, nn.Conv2d(32, channels, 1), nn.Upsample(scale_factor=4, mode="bilinear"))
        return made if staged else Whole(made)

    trunk = {"stem": nn.Conv2d(3, 8, 4, 4), "last": unit(8, 8)}
    graph = Graph(trunk, {task: Branch(head(n), ["last"], squared) for task, n in {"a": 3, "b": 1}.items()})
    targets = {"a": Labels(torch.rand(3, 3, 32, 32), [0, 2, 3]), "b": torch.rand(4, 1, 32, 32)}
    return Case(graph, torch.rand(4, 3, 32, 32), targets)


@cache
def measured(norm: type[nn.Module] = nn.BatchNorm2d, *, staged: bool = True) -> Chain:
    """The chain of `dense`, once."""
    return chain_of(dense(norm, staged=staged))


class Whole(nn.Module):
    """A head that does not show its stages."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.inside(levels)


NAMES = ["heads_of_stages", "a_head_of_stages_shared_by_two_branches", "heads_of_stages_partly_frozen"]


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*NAMES, "bfloat16_autocast_with_heads_of_stages"])
def test_no_simulation_of_a_head_is_below_its_rehearsal(name: str, every: int) -> None:
    """In every nest, at the top and late, with several levels, tuples, state, casts and frozen stages."""
    case = build(name)
    chain, checked = chain_of(case), 0
    for schedule in list(staged(case.graph))[::every]:
        try:
            said = simulate(chain, schedule).peak_bytes
        except ScheduleError:  # products of a stage that has none
            continue
        with case.forward_context():
            assert rehearse(case.graph, schedule, case.images, case.targets) <= said, schedule
        checked += 1
    assert checked >= 2


HEADS = [
    "0 1 2 3 4 5 6",
    "0 (1 2) (3 4) 5 6",
    "(0 1 2 3 4 5 6)",
    "0 ((1 2) 3 4 5) 6",
    "0 [1] ([2] 3) [4] 5 6",
    "(0 (1 2)) [3] 4 5 6",
]


@pytest.mark.parametrize("late", ["", " late"])
@pytest.mark.parametrize("head", HEADS)
def test_heads_of_blocks_are_simulated_to_a_percent(head: str, late: str) -> None:
    """Blocks of convolution, norm and GELU: the peak is the head's, said to be no less and hardly more."""
    case = dense()
    schedule = Schedule.parse(f"stem last | a{late}: {head}, b{late}: {head}")
    said, found = simulate(measured(), schedule), rehearse(case.graph, schedule, case.images, case.targets)
    assert said.at_peak.what.startswith("branch")
    assert found <= said.peak_bytes <= found * 1.01


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows_and_stages_together_are_simulated(rows: int) -> None:
    """Between one row and all, bytes are interpolated: no less than in fact, and some percent more at most."""
    case = dense(nn.GroupNorm)
    schedule = Schedule.parse(f"stem last | a rows={rows}: 0 (1 2) (3 4) 5 6, b rows={rows}: 0 1 (2 3) 4 5 6")
    found = rehearse(case.graph, schedule, case.images, case.targets)
    assert found <= simulate(measured(nn.GroupNorm), schedule).peak_bytes <= found * 1.06


def test_the_front_holds_in_fact() -> None:
    """From the least peak up, on heads that are most of the step: what is rehearsed and measured, and 2 % more at most."""
    case = dense()
    points = front(measured())
    assert sum(": " in str(point.schedule) for point in points) > len(points) / 2
    for point in points[::12]:
        found = rehearse(case.graph, point.schedule, case.images, case.targets)
        assert found <= point.peak_bytes <= found * 1.02
        graph = copy.deepcopy(case.graph)
        with LiveBytes() as meter:
            Engine(graph, point.schedule).forward_backward(case.images, case.targets)
        assert meter.peak == found


def test_budgets_below_what_whole_heads_need_are_met() -> None:
    """A budget that is refused where heads run as one is met by recomputing in them."""
    whole, ours = (front(measured(staged=staged))[0] for staged in (False, True))
    assert ours.peak_bytes < 0.75 * whole.peak_bytes
    case = dense()
    schedule = fit(case.graph, case.images, case.targets, budget=ours.peak_bytes, cost="flops")
    assert any(run.head for run in schedule.branches)
    usage = simulate(measured(), schedule)
    assert 0 < usage.recompute_work < usage.work / 2


def test_more_budget_never_costs_more() -> None:
    """Over the whole range; ample budgets leave the heads as they are."""
    chain = measured()
    least, most = front(chain)[0].peak_bytes, simulate(chain, plan(chain)).peak_bytes
    schedules = [plan(chain, least + (most - least) * step // 40) for step in range(41)]
    works = [simulate(chain, schedule).work for schedule in schedules]
    assert works == sorted(works, reverse=True)
    assert works[0] > works[-1]
    assert schedules[-1] == plan(chain)


def test_rows_come_before_recompute() -> None:
    """Where images are apart and one at a time is enough, nothing of a head is recomputed."""
    chain = measured(nn.GroupNorm)
    branch = max(chain.branches, key=lambda branch: branch.later_peak)
    fixed = simulate(chain, plan(chain)).peak_bytes - branch.later_peak
    schedule = plan(chain, fixed + branch.later_peak // 2)
    runs = {run.task: run for run in schedule.branches}
    assert runs[branch.task].rows is not None
    assert not any(run.head for run in schedule.branches)


def test_stages_that_are_all_kept_cost_what_the_head_costs() -> None:
    """The same bytes, to a percent, and no more work."""
    for branch in measured().branches:
        kept = by_stages(branch, tuple(stage.name for stage in branch.heads[0].stages))
        assert kept.work == branch.work
        assert kept.later_peak == pytest.approx(branch.later_peak, rel=0.01)


def test_other_stages_are_refused() -> None:
    """A schedule that names others than the head has, and one for a head without stages."""
    with pytest.raises(ScheduleError, match="differ in their stages"):
        simulate(measured(), Schedule.parse("stem last | a: 0 (1 2), b"))
    with pytest.raises(ScheduleError, match=re.escape("the head of branch 'a' runs only as one; drop (0 1)")):
        simulate(measured(staged=False), Schedule.parse("stem last | a: 0 1, b"))


def test_one_row_is_measured_where_images_are_apart() -> None:
    """Heads with batch norm are measured on all rows alone, others on one row besides."""
    assert [len(branch.heads) for branch in measured().branches] == [1, 1]
    assert [len(branch.heads) for branch in measured(nn.GroupNorm).branches] == [2, 2]
    assert [len(branch.heads) for branch in measured(staged=False).branches] == [0, 0]


class Box:
    """Hides a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class Boxes(nn.Module):
    """Puts a tensor into a box."""

    def forward(self, x: Tensor) -> Box:
        return Box(x)


class Opens(nn.Module):
    """Takes it out."""

    def forward(self, box: Box) -> Tensor:
        return box.tensor


def test_stages_that_hide_tensors_from_each_other_are_run_as_one() -> None:
    """What cannot be measured is not planned."""
    case = dense()
    case.graph.heads["a"] = nn.Sequential(*case.graph.heads["a"], Boxes(), Opens())
    assert [len(branch.heads) for branch in chain_of(case).branches] == [0, 1]


def test_a_step_is_another_if_its_head_shows_its_stages() -> None:
    """The same operations, but other ways to plan them."""
    names = {fingerprint(c.graph, c.images, c.targets, cost="flops") for c in (dense(), dense(staged=False))}
    assert len(names) == 2


def test_chains_with_heads_survive_json() -> None:
    """All numbers of the heads included."""
    chain = measured(nn.GroupNorm)
    assert Chain.from_dict(chain.to_dict()) == chain


def scattered(case: Case, rows: list[int]) -> Case:
    """The same with other labelled rows of the first task."""
    value: Any = torch.rand(len(rows), 3, 32, 32)
    return replace(case, targets=case.targets | {"a": Labels(value, rows)})


@pytest.mark.parametrize("rows", [[0], [1, 3], [3, 0, 2], [0, 1, 2, 3]])
def test_any_rows_are_covered(rows: list[int]) -> None:
    """Neighbours, which are read as a view, and others, which are copied."""
    case = scattered(dense(), rows)
    schedule = Schedule.parse("stem last | a: (0 1 2) (3 4) 5 6, b: 0 (1 2 3 4) 5 6")
    found = rehearse(case.graph, schedule, case.images, case.targets)
    assert found <= simulate(chain_of(case), schedule).peak_bytes <= found * 1.01
