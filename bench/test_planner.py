"""How long it takes to know a schedule: measuring without computing, and planning for a budget.

pytest bench/test_planner.py --benchmark-only
"""

from typing import Any

import pytest
from workloads import WORKLOADS

import ubertrain as ut
from ubertrain.planning.chain import BranchCost, Chain, Keeping, StageCost

CASES = ("resnet50_ubernet", "vit_b16", "vgg16_ubernet")


def long_chain(count: int) -> Chain:
    """Stages of six sizes in turn, one task on every fourth part."""
    stages = tuple(
        StageCost(
            f"s{number}",
            ((number, size := 2**20 * (1 + number % 6)),),
            size,
            Keeping(3 * size, 3 * size, 5 * size, 2.0),
            Keeping(2 * size, 3 * size, 5 * size, 2.1),
            2 * size,
            0,
            size,
            6 * size,
            0,
            1.0,
            0.8,
        )
        for number in range(count)
    )
    taps = [count * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    branches = tuple(BranchCost(f"t{tap}", (tap,), 8, 2**24, 2**24, None, 0, 4, True, 3.0) for tap in taps)
    work = 3.0 * count + 12
    return Chain(stages, (), branches, tuple(branch.task for branch in branches), "seconds", 2**34, work, 8)


@pytest.mark.parametrize("name", CASES)
def test_estimate(benchmark: Any, name: str) -> None:
    """A chain of 8 x 3 x 512 x 512 on fake tensors."""
    graph, images, targets = WORKLOADS[name].build(8, 512)
    chain = benchmark.pedantic(ut.estimate, (graph, images, targets), {"cost": "flops"}, rounds=1)
    assert len(chain.stages) == len(graph.stage_names)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("share", [0.6, 0.4])
def test_plan(benchmark: Any, name: str, share: float) -> None:
    """A schedule for a share of plain autograd's peak."""
    graph, images, targets = WORKLOADS[name].build(8, 512)
    chain = ut.estimate(graph, images, targets, cost="flops")
    budget = int(share * chain.plain_peak)
    schedule = benchmark.pedantic(ut.plan, (chain, budget), rounds=3)
    assert ut.simulate(chain, schedule).peak_bytes <= budget


@pytest.mark.parametrize("count", [50, 100, 300])
def test_plan_a_long_chain(benchmark: Any, count: int) -> None:
    """A schedule for a quarter of what keeping everything needs."""
    chain = long_chain(count)
    budget = ut.simulate(chain, ut.plan(chain)).peak_bytes // 4
    schedule = benchmark.pedantic(ut.plan, (chain, budget), rounds=1)
    assert ut.simulate(chain, schedule).peak_bytes <= budget
