"""What schedules mean, by numbers that were worked out by hand."""

import pytest

from tests.planning.chains import branch, chain_of, stage
from ubertrain.errors import ScheduleError
from ubertrain.planning.chain import Chain, Keeping, NarrowCost, Narrowed
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import simulate

A, B = stage("a", 0, products=Keeping(5, 9, 15, 22.0)), stage("b", 1)
ONE = chain_of((A, B), (branch("t", 1),))
TWO = chain_of((A, B), (branch("t", 1), branch("u", 0)))

NARROW = NarrowCost((Narrowed(2, 3, 5, 13, 9), Narrowed(1, 2, 4, 11, 7)), 10, 4.0)
MORE = branch("t", 0, 1, narrow=NARROW)
ALL = chain_of((A, B), (MORE,))
EACH = chain_of((A, B), (MORE, branch("u", 0, narrow=NarrowCost((Narrowed(1, 1, 2, 6, 5),), 3, 2.0), may_be_late=False)))

# Peaks of the moments in order, beyond what starts the backward: the forward of a and b, the branches, the backward.
BY_HAND = [
    (ONE, "a b | t", [8, 14, 28, 21, 15], 65),
    (ONE, "[a] b | t", [9, 13, 27, 20, 16], 67),
    (ONE, "a (b) | t", [8, 12, 26, 23, 15], 73),
    (ONE, "(a b) | t", [6, 10, 20, 13, 23, 15], 83),
    (ONE, "(a) (b) | t", [6, 10, 24, 21, 17], 81),
    (ONE, "((a) b) | t", [6, 10, 20, 11, 21, 17], 91),
    (ONE, "(a (b)) | t", [6, 10, 20, 13, 23, 15], 83),
    (TWO, "a b | t, u", [8, 14, 28, 33, 26, 16], 70),
    (TWO, "a b | t, u late", [8, 14, 28, 21, 27, 16], 70),
    (TWO, "(a b) | t, u", [6, 10, 24, 29, 18, 28, 16], 88),
    (TWO, "(a b) | t late, u late", [6, 10, 20, 13, 23, 27, 16], 88),
    (ALL, "a b | t narrow", [8, 11, 16, 18, 25, 27, 24, 24, 15], 69),
    (ALL, "(a b) | t narrow", [6, 9, 12, 10, 17, 19, 16, 26, 24, 15], 87),
    (EACH, "a b | t narrow, u narrow", [8, 11, 10, 17, 19, 19, 27, 29, 26, 21, 25, 16], 76),
]


@pytest.mark.parametrize(("chain", "text", "peaks", "work"), BY_HAND)
def test_moments_by_hand(chain: Chain, text: str, peaks: list[int], work: float) -> None:
    """The bytes of every moment and the work of the step are those of the sums on paper."""
    usage = simulate(chain, Schedule.parse(text))
    assert [moment.peak_bytes - chain.starts for moment in usage.timeline] == peaks
    assert usage.peak_bytes - chain.starts == max(peaks)
    assert usage.work == work


def test_recompute_work_is_what_keeping_all_saves() -> None:
    """Plain schedules recompute nothing; others the difference in work."""
    plain, nested = (simulate(ONE, Schedule.parse(text)) for text in ("a b | t", "((a) b) | t"))
    assert plain.recompute_work == 0
    assert nested.recompute_work == nested.work - plain.work


def test_the_peak_names_its_moment() -> None:
    """`at_peak` is the first moment that needs the peak."""
    assert simulate(ONE, Schedule.parse("a b | t")).at_peak.what == "branch t"
    assert simulate(ONE, Schedule.parse("(a b) | t")).at_peak.what == "recompute and backward b"


def test_a_gradient_that_meets_a_sum_needs_more() -> None:
    """`meeting` counts in the backward above a tap, and only there."""
    above = stage("b", 1, meeting=5)
    plain, meeting = (
        simulate(chain_of((A, last), (branch("t", 1), branch("u", 0))), Schedule.parse("a b | t, u")) for last in (B, above)
    )
    before, after = ([moment.peak_bytes for moment in usage.timeline] for usage in (plain, meeting))
    assert [new - old for old, new in zip(before, after, strict=True)] == [0, 0, 0, 0, 5, 0]


def test_a_value_handed_on_is_held_by_its_maker() -> None:
    """A span whose end is partly its input holds the rest alone."""
    handing = stage("b", 1, output=((0, 4), (1, 3)))
    usages = [simulate(chain_of((A, last), (branch("t", 1),)), Schedule.parse("(a) (b) | t")) for last in (B, handing)]
    assert [usage.timeline[1].peak_bytes for usage in usages] == [18, 18]
    assert [usage.timeline[2].peak_bytes for usage in usages] == [32, 31]


def test_rows_lower_the_branch_alone() -> None:
    """A branch in parts needs `one_row` and `per_row` for each further row; all other moments stay."""
    chain = chain_of((A, B), (branch("t", 1, rows=8, one_row=6, per_row=2),))
    whole, parts = (simulate(chain, Schedule.parse(f"a b | t{rows}")) for rows in ("", " rows=3"))
    differences = [new.peak_bytes - old.peak_bytes for old, new in zip(whole.timeline, parts.timeline, strict=True)]
    assert differences == [0, 0, 12 + 6 + 2 * 2 + 4 - 28, 0, 0]


def test_stages_that_do_not_run_cost_nothing() -> None:
    """What stands above the last stage of the chain is named and left out, also inside a span."""
    chain = chain_of((A, B), (branch("t", 1),), unused=("c", "d"))
    assert simulate(chain, Schedule.parse("a (b c) d | t")) == simulate(ONE, Schedule.parse("a (b) | t"))


REFUSED = [
    (ONE, "a | t", "differ in their stages"),
    (ONE, "a [b] | t", "does not allow to keep products only"),
    (ONE, "a b | t rows=1", "couples its images"),
    (ONE, "rows=1 a b | t", "estimate one of 1"),
]


@pytest.mark.parametrize(("chain", "text", "message"), REFUSED)
def test_what_the_chain_cannot_do_is_refused(chain: Chain, text: str, message: str) -> None:
    """A schedule that does not suit the chain raises ScheduleError that says why."""
    with pytest.raises(ScheduleError, match=message):
        simulate(chain, Schedule.parse(text))
