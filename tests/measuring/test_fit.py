"""A budget is met to the byte, or refused with the smallest one that can be met; over the zoo, in fact as on paper."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tests.zoo import ZOO, Case, plain, squared, two_tasks
from ubertrain.engine.branch import Branch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import BudgetError, ScheduleError
from ubertrain.measuring.estimate import estimate
from ubertrain.measuring.fit import fit
from ubertrain.measuring.rehearse import rehearse
from ubertrain.planning.chain import Chain
from ubertrain.planning.front import front
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.plan import plan
from ubertrain.planning.simulate import simulate

WIDTHS = (8, 8, 8, 8, 8, 8)
NEEDS_VALUES = "batch_norm_cumulative"
"""Batch norm without momentum reads its counter: the one architecture that cannot be measured on fake tensors."""
UNLIKE = (
    "recurrent_stage",
    "bfloat16_autocast",
    "bfloat16_autocast_with_a_stage_used_twice",
    "bfloat16_autocast_with_fusion_heads",
)
"""torch's LSTM, and its batch norm in bfloat16, make other tensors when they are fake."""
EVERY = 4
"""Of the zoo every so many architectures are tested by default, the others with `-m slow`."""
SHORT = {"bfloat16_autocast_with_dropout_and_sharing": 22, "buffers_made_in_the_first_run": 16}
"""By how many bytes a simulation may be short: casts of weights that trunk and heads share live as long as both, and a buffer
that is made in the step is not copied in the runs that are measured."""


@pytest.fixture
def case() -> Case:
    """Six stages, three tasks."""
    return two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.Tanh()]), WIDTHS)


def measured(case: Case) -> Chain:
    """The chain of a case, in FLOPs."""
    with case.forward_context():
        return estimate(case.graph, case.images, case.targets, cost="flops")


def zoo(name: str) -> Case:
    """The architecture, always with the same weights and batch."""
    torch.manual_seed(7)
    return ZOO[name]()


def sampled(*without: str) -> list[Any]:
    """The names of the zoo, most of them marked slow."""
    names = [name for name in ZOO if name not in without]
    return [name if place % EVERY == 0 else pytest.param(name, marks=pytest.mark.slow) for place, name in enumerate(names)]


@pytest.mark.parametrize("name", sampled(NEEDS_VALUES))
def test_no_simulation_is_below_the_rehearsal(name: str) -> None:
    """On the whole front of every architecture the engine needs no more than the planner says."""
    case = zoo(name)
    chain = measured(case)
    with case.forward_context():
        for point in front(chain, count=6):
            rehearsed = rehearse(case.graph, point.schedule, case.images, case.targets)
            assert rehearsed <= point.peak_bytes + SHORT.get(name, 0), point.schedule


@pytest.mark.parametrize("name", sampled(NEEDS_VALUES, *UNLIKE))
def test_what_fits_on_paper_fits_in_fact(name: str) -> None:
    """Three budgets from tight to ample: the real step needs what was rehearsed, to the byte, and that is within the budget."""
    case = zoo(name)
    points = front(measured(case), count=6)
    for budget in {points[0].peak_bytes, points[len(points) // 2].peak_bytes, points[-1].peak_bytes}:
        with case.forward_context():
            schedule = fit(case.graph, case.images, case.targets, budget=budget + SHORT.get(name, 0), cost="flops")
            rehearsed = rehearse(case.graph, schedule, case.images, case.targets)
            graph = copy.deepcopy(case.graph)
            with LiveBytes() as meter:
                Engine(graph, schedule).forward_backward(case.images, case.targets)
        assert meter.peak == rehearsed <= budget + SHORT.get(name, 0), schedule


def test_a_graph_that_needs_values_says_so() -> None:
    """What cannot be measured without computing is an error that names the operation."""
    with pytest.raises(ScheduleError, match="needs values, not only shapes"):
        measured(zoo(NEEDS_VALUES))


def test_an_ample_budget_recomputes_nothing(case: Case) -> None:
    """With more than plain autograd's bytes the schedule is keep_all."""
    ample = keep_all(case.graph.stage_names, tuple(case.graph.branches))
    assert fit(case.graph, case.images, case.targets, budget="1GiB", cost="flops") == ample


def test_an_impossible_budget_names_the_smallest_feasible_one(case: Case) -> None:
    """A byte less than the least is refused; the budget that the message names is accepted, and its moment is named."""
    with pytest.raises(BudgetError, match="smallest feasible budget") as error:
        fit(case.graph, case.images, case.targets, budget=100, cost="flops")
    smallest = error.value.smallest
    assert smallest is not None and f"({smallest} bytes)" in str(error.value)
    usage = simulate(measured(case), error.value.schedule)
    assert usage.peak_bytes == smallest and f"{usage.at_peak.what!r}" in str(error.value)
    fitted = fit(case.graph, case.images, case.targets, budget=smallest, cost="flops")
    needed = rehearse(case.graph, fitted, case.images, case.targets)
    assert needed <= smallest
    with pytest.raises(BudgetError):
        fit(case.graph, case.images, case.targets, budget=needed - 1, cost="flops")


def test_fitting_changes_nothing(case: Case) -> None:
    """Parameters, buffers, gradients and random numbers are those of before."""
    before = {name: value.clone() for name, value in case.graph.state_dict().items()}
    state = torch.get_rng_state()
    fit(case.graph, case.images, case.targets, budget="1GiB", cost="flops")
    assert all(torch.equal(before[name], value) for name, value in case.graph.state_dict().items())
    assert all(p.grad is None for p in case.graph.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_a_shape_will_do(case: Case) -> None:
    """A batch need not exist to be planned for: its shape and labels without memory give the same schedule."""
    budget = front(measured(case), count=4)[1].peak_bytes
    real = fit(case.graph, case.images, case.targets, budget=budget, cost="flops")
    assert fit(case.graph, tuple(case.images.shape), case.targets, budget=budget, cost="flops") == real
    assert fit(case.graph, case.images.to("meta"), case.targets, budget=budget, cost="flops") == real


def test_a_chain_that_is_too_low_is_repaired(case: Case) -> None:
    """A chain whose numbers are too small still gives a schedule that fits: it is tightened until the rehearsal does."""
    chain = measured(case)
    points = front(chain, count=8)
    limit = points[len(points) // 2].peak_bytes
    optimist = Chain.from_dict(
        chain.to_dict()
        | {"stages": [s.__dict__ | {"whole": s.whole.__dict__ | {"kept": s.whole.kept // 2},
                                    "products": None} for s in chain.stages]}
    )  # fmt: skip
    naive = plan(optimist, limit)
    assert rehearse(case.graph, naive, case.images, case.targets) > limit
    schedule = fit(case.graph, case.images, case.targets, budget=limit, chain=optimist)
    assert rehearse(case.graph, schedule, case.images, case.targets) <= limit


def test_a_batch_is_split_only_if_that_is_allowed_and_cheaper() -> None:
    """Where no module couples images, half the images at a time cost no work and half the activations."""
    case = two_tasks(plain(WIDTHS, lambda c: [nn.GroupNorm(2, c), nn.Tanh()]), WIDTHS)
    budget = int(
        rehearse(case.graph, keep_all(case.graph.stage_names, tuple(case.graph.branches)), case.images, case.targets) * 0.7
    )
    whole = fit(case.graph, case.images, case.targets, budget=budget, cost="flops")
    split = fit(case.graph, case.images, case.targets, budget=budget, cost="flops", split_batch=True)
    assert whole.rows is None and any(whole.recomputed().values())
    assert split.rows == 2 and not any(split.recomputed().values())
    assert rehearse(case.graph, split, case.images, case.targets) <= budget


def test_a_batch_whose_images_are_coupled_is_never_split(case: Case) -> None:
    """With batch norm in the trunk permission changes nothing."""
    budget = front(measured(case), count=4)[1].peak_bytes
    assert fit(case.graph, case.images, case.targets, budget=budget, cost="flops", split_batch=True).rows is None


class Summed(nn.Module):
    """A head whose gradient is one number for the whole level."""

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        return levels[0].sum((1, 2, 3))[:, None]


def test_fewer_labels_never_need_more() -> None:
    """Gradients of some rows are written out where that of all rows is one number expanded: the plan counts with that."""
    graph = Graph({"a": nn.Conv2d(3, 8, 3, padding=1)}, {"t": Branch(Summed(), ["a"], squared)})
    images, target = torch.rand(4, 3, 32, 32), torch.rand(4, 1)
    chain = estimate(graph, images, {"t": target}, cost="flops")
    said = simulate(chain, plan(chain)).peak_bytes
    assert rehearse(graph, plan(chain), images, {"t": Labels(target[:2], [0, 1])}) <= said


def test_the_budget_named_for_parts_is_accepted() -> None:
    """Where the batch may be split, the refusal names what its parts need, and that is enough."""
    case = two_tasks(plain(WIDTHS, lambda c: [nn.GroupNorm(2, c), nn.Tanh()]), WIDTHS)
    with pytest.raises(BudgetError, match="images at a time") as error:
        fit(case.graph, case.images, case.targets, budget=100, cost="flops", split_batch=True)
    named = error.value.smallest
    assert named is not None
    assert fit(case.graph, case.images, case.targets, budget=int(named * 1.05), cost="flops", split_batch=True).rows == 1


def test_a_graph_without_memory_can_be_fitted(case: Case) -> None:
    """A graph on the meta device gets the schedule of a real one."""
    budget = front(measured(case), count=4)[1].peak_bytes
    real = fit(case.graph, case.images, case.targets, budget=budget, cost="flops")
    assert fit(case.graph.to("meta"), tuple(case.images.shape), case.targets, budget=budget, cost="flops") == real
