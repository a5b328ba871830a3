"""A training step as plain numbers."""

import json
from dataclasses import replace

import pytest

from tests.planning.chains import branch, chain_of, drawn_chain, stage
from ubertrain.planning.chain import Chain, Keeping

NAMES = "abc"
STAGES = tuple(stage(name, number) for number, name in enumerate(NAMES))


@pytest.mark.parametrize("seed", range(20))
def test_a_chain_survives_json(seed: int) -> None:
    """`to_dict`, a trip through JSON and `from_dict` give an equal chain."""
    chain = drawn_chain(seed, 4, noted=3)
    assert Chain.from_dict(json.loads(json.dumps(chain.to_dict()))) == chain


def test_products_survive_json() -> None:
    """A stage that allows to keep products only still does so."""
    chain = chain_of((stage("a", 0, products=Keeping(5, 9, 15, 22.0)),), (branch("t", 0),), unused=("b",))
    assert Chain.from_dict(json.loads(json.dumps(chain.to_dict()))) == chain


def test_a_value_that_is_handed_on_is_not_held_twice() -> None:
    """Of a value only what was made after the given one counts; the images hold nothing."""
    handing = replace(STAGES[2], output=((0, 7), (1, 5), (2, 3)))
    chain = chain_of((*STAGES[:2], handing), ())
    assert [chain.held(start, 2) for start in (-1, 0, 1, 2)] == [15, 8, 3, 0]
    assert chain.held(-1, -1) == 0


ONLY = [
    (("t", "u"), "abc", ""),
    (("u",), "abc", ""),
    (("t",), "ab", "c"),
    ((), "", "abc"),
]


@pytest.mark.parametrize(("tasks", "running", "unused"), ONLY)
def test_a_batch_that_labels_less_runs_no_more_than_it_needs(tasks: tuple[str, ...], running: str, unused: str) -> None:
    """Stages above the last tap of a labelled branch are moved to the unused; all names and the order stay."""
    chain = chain_of(STAGES, (branch("t", 1), branch("u", 0, 2))).only(tasks)
    assert "".join(stage.name for stage in chain.stages) == running
    assert "".join(chain.unused) == unused
    assert tuple(branch.task for branch in chain.branches) == tasks
    assert chain.names == tuple(NAMES)
    assert chain.order == ("t", "u")


PEAKS = [
    (None, 8, 8, 20),  # nobody made the sums yet
    (None, 4, 8, 26),
    (None, 0, 8, 22),
    (4, 8, 8, 20),
    (9, 0, 8, 22),
    (1, 0, 8, 10),
    (3, 4, 8, 18),
]


@pytest.mark.parametrize(("rows", "fresh", "total", "peak"), PEAKS)
def test_what_a_branch_needs_depends_on_rows_and_sums(rows: int | None, fresh: int, total: int, peak: int) -> None:
    """Whole: with all sums made here or not; in parts: one row, what each further adds, and the sums made here."""
    assert (
        branch("t", 0, rows=4, first_peak=20, later_peak=22, one_row=10, per_row=2).peak(rows, fresh=fresh, total=total) == peak
    )
