"""A budget is met to the byte, or refused with the smallest one that can be met."""

import re

import pytest
import torch
from torch import nn

from tests.zoo import Case, plain, two_tasks
from ubertrain.engine.engine import Engine
from ubertrain.engine.fit import candidates, fit
from ubertrain.engine.meter import LiveBytes
from ubertrain.engine.rehearse import rehearse
from ubertrain.errors import BudgetError
from ubertrain.planning.keep_all import keep_all

WIDTHS = (8, 8, 8, 8, 8, 8)


@pytest.fixture
def case() -> Case:
    """Six stages, two tasks."""
    return two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.Tanh()]), WIDTHS)


def test_an_ample_budget_recomputes_nothing(case: Case) -> None:
    """With plain autograd's bytes the schedule is keep_all."""
    ample = keep_all(case.graph.stage_names, tuple(case.graph.branches))
    assert fit(case.graph, case.images, case.targets, budget="1GiB") == ample


def test_what_fits_on_paper_fits_in_fact(case: Case) -> None:
    """For budgets from ample to tight the measured peak of the real step is within the budget."""
    peaks = sorted({rehearse(case.graph, s, case.images, case.targets) for s in candidates(case.graph)})
    assert len(peaks) > 2
    for budget in peaks:
        schedule = fit(case.graph, case.images, case.targets, budget=budget)
        with LiveBytes() as meter:
            Engine(case.graph, schedule).forward_backward(case.images, case.targets)
        assert meter.peak <= budget


def test_an_impossible_budget_names_the_smallest_feasible_one(case: Case) -> None:
    """One byte less than the best peak is refused; the budget that the message names is accepted."""
    smallest = min(rehearse(case.graph, s, case.images, case.targets) for s in candidates(case.graph))
    with pytest.raises(BudgetError, match="smallest feasible budget") as error:
        fit(case.graph, case.images, case.targets, budget=smallest - 1)
    named = re.findall(r"\((\d+) bytes\)", str(error.value))
    assert named == [str(smallest - 1), str(smallest)]
    fit(case.graph, case.images, case.targets, budget=smallest)


def test_fitting_changes_nothing(case: Case) -> None:
    """Parameters, buffers, gradients and random numbers are those of before."""
    before = {name: value.clone() for name, value in case.graph.state_dict().items()}
    state = torch.get_rng_state()
    fit(case.graph, case.images, case.targets, budget="1GiB")
    assert all(torch.equal(before[name], value) for name, value in case.graph.state_dict().items())
    assert all(p.grad is None for p in case.graph.parameters())
    assert torch.equal(state, torch.get_rng_state())
