"""From a budget to a schedule: what `plan` promises to its callers."""

from dataclasses import replace

import pytest

from tests.planning.chains import branch, chain_of, drawn_chain, stage
from ubertrain.errors import BudgetError, ConfigError
from ubertrain.planning.chain import Chain, Keeping
from ubertrain.planning.front import front
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.plan import PLANNERS, plan
from ubertrain.planning.search import Programme
from ubertrain.planning.simulate import simulate

EQUAL = chain_of(tuple(stage(f"s{number}", number) for number in range(9)), (branch("t", 8), branch("u", 4)))
LARGE = 2**20


def large_chain(count: int) -> Chain:
    """Stages of some MB, so that a slot is more than a byte."""
    sizes = [LARGE * (1 + number * 7 % 5) + 777 * number for number in range(count)]
    stages = tuple(
        stage(
            f"s{number}",
            number,
            output=((number, size),),
            gradient=size,
            whole=Keeping(3 * size, 4 * size, 5 * size, 2e9 * (1 + number % 3)),
            products=Keeping(2 * size, 4 * size, 5 * size, 2.1e9 * (1 + number % 3)),
            pass_peak=2 * size,
            pending=size,
            tail_peak=6 * size,
            noted=4096,
            forward=1e9 * (1 + number % 3),
            partial=8e8 * (1 + number % 3),
        )
        for number, size in enumerate(sizes)
    )
    total = sizes[count // 2] + sizes[-1]
    branches = (branch("t", count - 1), branch("u", count // 2, count - 1, first_peak=total + LARGE, later_peak=total + LARGE))
    return chain_of(stages, branches)


def test_no_budget_keeps_what_autograd_keeps() -> None:
    """Without a budget nothing is recomputed and every branch runs whole, at the top."""
    assert plan(EQUAL) == keep_all(EQUAL.names, EQUAL.order)


def test_a_budget_may_be_text() -> None:
    """Units are understood as elsewhere."""
    assert plan(EQUAL, "60B") == plan(EQUAL, 60)


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("seed", range(8))
def test_what_is_planned_fits_and_more_budget_never_costs_more(planner: str, seed: int) -> None:
    """Over all budgets: the simulated peak fits, work falls, and a refusal names a budget that the attached schedule fits."""
    chain = drawn_chain(seed, 4, noted=1)
    works = []
    for budget in range(0, simulate(chain, keep_all(chain.names, chain.order)).peak_bytes + 20, 3):
        try:
            usage = simulate(chain, plan(chain, budget, planner))
        except BudgetError as error:
            assert error.smallest is not None
            assert error.smallest > budget
            assert simulate(chain, plan(chain, error.smallest, planner)).peak_bytes == error.smallest
            assert simulate(chain, error.schedule).peak_bytes == error.smallest  # type: ignore[arg-type]
            assert not works, "a smaller budget was met"
        else:
            assert usage.peak_bytes <= budget
            works.append(usage.work)
    assert works == sorted(works, reverse=True)


@pytest.mark.parametrize("count", [6, 24])
def test_large_sizes_fit_and_are_monotone_too(count: int) -> None:
    """The same where sizes are rounded to slots; at the budget of keeping everything, nothing is recomputed."""
    chain = large_chain(count)
    programme, full = Programme(chain), simulate(chain, keep_all(chain.names, chain.order))
    budgets = [int(full.peak_bytes * share / 100) for share in range(5, 101)]
    found = [programme.best(budget) for budget in budgets]
    works = [float("inf") if one is None else one.work for one in found]
    assert all(one is None or one.peak_bytes <= budget for one, budget in zip(found, budgets, strict=True))
    assert works == sorted(works, reverse=True)
    assert works[-1] == full.work


@pytest.mark.parametrize("planner", ["every_k", "per_stage", "revolve", "keep_all"])
@pytest.mark.parametrize("seed", range(8))
def test_no_baseline_is_better(planner: str, seed: int) -> None:
    """Wherever a baseline fits, the optimum costs no more."""
    chain = drawn_chain(seed, 5)
    programme = Programme(chain)
    for point in front(chain, planner):
        found = programme.best(point.peak_bytes)
        assert found is not None
        assert found.work <= point.work


KINDS = [
    ("keep_all", 10**6, "s0 s1 s2 s3 s4 s5 s6 s7 s8 | t, u"),
    ("per_stage", 10**6, "(s0) (s1) (s2) (s3) (s4) (s5) (s6) (s7) (s8) | t, u"),
    ("every_k", 45, "(s0 s1) (s2 s3) (s4 s5) (s6 s7) (s8) | t, u"),
    ("revolve", 10**6, "(s0) (s1) (s2) (s3) (s4) (s5) (s6) (s7) s8 | t, u"),
]


@pytest.mark.parametrize(("planner", "budget", "text"), KINDS)
def test_baselines_give_their_kind(planner: str, budget: int, text: str) -> None:
    """Each baseline answers with a schedule of its family, the cheapest that fits."""
    chain = replace(EQUAL, branches=EQUAL.branches[:1])
    assert str(plan(chain, budget, planner)) == text


def test_the_refusal_says_what_to_do() -> None:
    """It names the planner, the budgets, the moment of the peak and what lowers it."""
    with pytest.raises(BudgetError) as error:
        plan(EQUAL, 20)
    smallest = error.value.smallest
    for part in (
        "within 20 B (20 bytes)",
        f"({smallest} bytes)",
        "needed at 're",
        "fewer images (now 2)",
        "finer=True",
        "s4, s8",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(("one_row", "remedy"), [(None, "couples no images"), (30, "a smaller head of task 't'")])
def test_a_head_that_needs_too_much_is_named(one_row: int | None, remedy: str) -> None:
    """Where a branch needs the peak, the remedy concerns its head."""
    chain = chain_of(EQUAL.stages[:2], (branch("t", 1, rows=8, first_peak=99, later_peak=99, one_row=one_row, per_row=1),))
    with pytest.raises(BudgetError, match=f"needed at 'branch t'.*{remedy}"):
        plan(chain, 30)


@pytest.mark.parametrize(("budget", "rows"), [(99 + 12, None), (99 + 11, 7), (46 + 60, 7), (46 + 59, 6), (46 + 10, 2), (46, 1)])
def test_rows_are_split_no_further_than_needed(budget: int, rows: int | None) -> None:
    """A head that couples no images runs whole if that fits, else with the most rows that do; nothing is recomputed."""
    head = branch("t", 1, rows=8, first_peak=99, later_peak=99, one_row=30, per_row=10, may_be_late=False)
    chain = chain_of(EQUAL.stages[:2], (head,))
    schedule = plan(chain, budget + chain.starts)
    assert schedule.branches[0].rows == rows
    assert simulate(chain, schedule).recompute_work == 0


def test_rows_are_split_before_anything_is_recomputed() -> None:
    """Where splitting the head is enough, the trunk is kept."""
    head = branch("t", 1, rows=8, first_peak=99, later_peak=99, one_row=10, per_row=1, may_be_late=False)
    whole, parts = chain_of(EQUAL.stages[:2], (replace(head, one_row=None),)), chain_of(EQUAL.stages[:2], (head,))
    budget = simulate(whole, keep_all(whole.names, whole.order)).peak_bytes - 5
    assert simulate(whole, plan(whole, budget)).recompute_work > 0
    assert simulate(parts, plan(parts, budget)).recompute_work == 0


@pytest.mark.parametrize("planner", PLANNERS)
def test_schedules_name_all_stages_and_branches(planner: str) -> None:
    """Stages that do not run are named as kept, branches without labels as plain ones."""
    chain = EQUAL.only(["u"])
    schedule = plan(chain, 500, planner)
    assert schedule.stages == EQUAL.names
    assert [run.task for run in schedule.branches] == ["t", "u"]
    assert schedule.trunk[-4:] == ("s5", "s6", "s7", "s8")
    assert str(schedule.branches[0]) == "t"


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_batch_without_labels_needs_nothing(planner: str) -> None:
    """No stage runs, so that every budget fits."""
    chain = EQUAL.only([])
    assert plan(chain, 0, planner) == keep_all(EQUAL.names, EQUAL.order)
    assert [(point.peak_bytes, point.work) for point in front(chain, planner)] == [(0, 0.0)]


def test_an_unknown_planner_is_named_with_its_neighbour() -> None:
    """The error lists the planners and the nearest name."""
    with pytest.raises(ConfigError, match="no planner 'optimum'.*did you mean 'optimal'"):
        plan(EQUAL, 100, "optimum")


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_front_rises_in_memory_and_falls_in_work(planner: str) -> None:
    """Its points are what `simulate` says of their schedules, from the smallest budget on, none beaten by another."""
    chain = large_chain(8)
    points = front(chain, planner)
    for point in points:
        usage = simulate(chain, point.schedule)
        assert (usage.peak_bytes, usage.work) == (point.peak_bytes, point.work)
    assert all(low.peak_bytes < high.peak_bytes and low.work > high.work for low, high in zip(points, points[1:], strict=False))
    with pytest.raises(BudgetError, match=f"smallest feasible budget is .*\\({points[0].peak_bytes} bytes\\)"):
        plan(chain, points[0].peak_bytes - 1, planner)


def test_the_optimal_front_ends_at_no_recompute() -> None:
    """Its last point does the least work there is."""
    chain = large_chain(8)
    assert simulate(chain, front(chain)[-1].schedule).recompute_work == 0


def test_enough_for_everything_keeps_everything() -> None:
    """With all the bytes that keeping everything needs, nothing else is done."""
    everything = keep_all(EQUAL.names, EQUAL.order)
    assert plan(EQUAL, simulate(EQUAL, everything).peak_bytes) == everything


def test_equal_work_takes_the_least_memory() -> None:
    """With a byte less than everything needs, a branch runs late, which lowers the peak for nothing."""
    plain = simulate(EQUAL, keep_all(EQUAL.names, EQUAL.order))
    schedule = plan(EQUAL, plain.peak_bytes - 1)
    usage = simulate(EQUAL, schedule)
    assert usage.work == plain.work
    assert usage.peak_bytes < plain.peak_bytes
    assert [run.late for run in schedule.branches] == [False, True]
