"""The programme against exhaustive search, and against what is known in closed form."""

import pytest

from tests.planning.chains import branch, chain_of, drawn_chain, drawn_chain_with_a_head, every_schedule, stage
from tests.planning.unrestricted import least_work
from ubertrain.planning.chain import Chain, Keeping
from ubertrain.planning.optimal import Table
from ubertrain.planning.revolve import least_runs
from ubertrain.planning.search import Programme
from ubertrain.planning.simulate import simulate

DRAWN = [(seed, count) for count, seeds in ((1, 20), (2, 40), (3, 40), (4, 20), (5, 4)) for seed in range(seeds)]
SLOW = [(seed, count) for count, seeds in ((5, 40), (6, 6)) for seed in range(100, 100 + seeds)]


def cheapest(chain: Chain) -> dict[int, float]:
    """Peak -> least work of all schedules of the class that have it."""
    best: dict[int, float] = {}
    for schedule in every_schedule(chain):
        usage = simulate(chain, schedule)
        best[usage.peak_bytes] = min(best.get(usage.peak_bytes, float("inf")), usage.work)
    return best


def check_against_all_schedules(chain: Chain) -> None:
    """Compare every budget from below the least peak to above the largest."""
    best, programme = cheapest(chain), Programme(chain)
    least = float("inf")
    for budget in range(min(best) - 1, max(best) + 2):
        least = min(least, best.get(budget, least))
        found = programme.best(budget)
        assert (None if found is None else found.work) == (least if least < float("inf") else None), budget
        assert found is None or simulate(chain, programme.schedule(found, budget)).peak_bytes <= budget
    assert programme.smallest().peak_bytes == min(best)


@pytest.mark.parametrize(("seed", "count"), DRAWN)
def test_no_schedule_of_the_class_is_better(seed: int, count: int) -> None:
    """At every budget the least work among all schedules whose simulated peak fits; nothing exactly where none fits."""
    check_against_all_schedules(drawn_chain(seed, count))


@pytest.mark.parametrize(("seed", "count"), [(seed, count) for count in (1, 2, 3) for seed in range(25)])
def test_no_schedule_with_a_head_of_several_stages_is_better(seed: int, count: int) -> None:
    """The same where the stages of one head may be recomputed, too, at the top and inside the trunk's backward."""
    check_against_all_schedules(drawn_chain_with_a_head(seed, count))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_no_schedule_with_a_head_of_several_stages_is_better_on_longer_chains(seed: int) -> None:
    """The same with four stages."""
    check_against_all_schedules(drawn_chain_with_a_head(seed, 4))


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "count"), SLOW)
def test_no_schedule_of_the_class_is_better_on_longer_chains(seed: int, count: int) -> None:
    """The same with up to six stages."""
    check_against_all_schedules(drawn_chain(seed, count))


@pytest.mark.parametrize("seed", range(20))
def test_copies_of_buffers_cost_little_and_never_the_budget(seed: int) -> None:
    """With copies, which are not part of what the programme holds, the peak is within the budget and at most 5 % too high."""
    chain = drawn_chain(seed, 4, noted=1)
    best, programme = cheapest(chain), Programme(chain)
    for budget in range(min(best) - 1, max(best) + 2):
        found = programme.best(budget)
        least = min((work for peak, work in best.items() if peak <= budget * 0.95), default=None)
        assert found is None or simulate(chain, found.schedule).work >= min(w for peak, w in best.items() if peak <= budget)
        assert least is None or (found is not None and found.work <= least)


def taped_chain(count: int) -> Chain:
    """Equal stages of which no more than one can be kept at a time: what revolve was made for."""
    large = Keeping(1000, 1000, 1000, 0.0)
    changes = {"gradient": 0, "whole": large, "pass_peak": 1, "pending": 0, "tail_peak": 1000, "forward": 1.0, "partial": 0.0}
    stages = tuple(stage(f"s{number}", number, output=((number, 1),), **changes) for number in range(count))
    return chain_of(stages, (branch("t", count - 1, first_peak=0, left=0, work=0.0, may_be_late=False),))


@pytest.mark.parametrize("count", [2, 5, 10, 17, 30])
def test_equal_stages_are_run_as_often_as_revolve_proves_necessary(count: int) -> None:
    """With room for one kept stage and some values, the runs are those of the binomial formula."""
    chain = taped_chain(count)
    programme, least = Programme(chain), 1000 + chain.starts
    for held in range(1, 9):
        found = programme.best(least + held)
        assert found is not None
        assert found.work == least_runs(count, held) + 1  # the run of the last stage, which is kept, is counted here alone
    assert programme.best(least) is None


@pytest.mark.parametrize("slot", [2, 3, 7])
def test_coarse_slots_find_schedules_too(slot: int) -> None:
    """The trunks that a table of larger slots promises can be simulated, and cheaper ones never need less than the least."""
    chain = drawn_chain(7, 5)
    table = Table(chain, frozenset(), slot, 200 // slot)
    works = [work for _, work in table.steps]
    assert works == sorted(works, reverse=True)
    assert min(works) == simulate(chain, Programme(chain).best(10_000).schedule).work  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_gap_to_all_sequences_is_small() -> None:
    """Dropping values before their span is run again, which nested spans cannot, seldom gains and never lowers the least peak.

    Chains of four and five stages with one branch at the top, every budget; the printed figures are how often and how much.
    """
    cases = gains = 0
    most = 0.0
    for seed in range(60):
        chain = drawn_chain(seed, 4 + seed % 2, simple=True)
        programme = Programme(chain)
        for budget in range(programme.smallest().peak_bytes, simulate(chain, next(every_schedule(chain))).peak_bytes + 1):
            found, least = programme.best(budget), least_work(chain, budget)
            assert found is not None
            assert least <= found.work
            cases, gains, most = cases + 1, gains + (least < found.work), max(most, 1 - least / found.work)
        assert least_work(chain, programme.smallest().peak_bytes - 1) == float("inf")
    print(f"of {cases} chains and budgets, {gains} have a sequence outside of nested spans that saves work, at most {most:.1%}")
    assert gains <= cases * 0.05
