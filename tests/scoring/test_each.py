"""One function over many items."""

import os

import pytest

from ubertrain.scoring.each import each


def with_process(item: int) -> tuple[int, int]:
    """The item and the process that saw it."""
    return item, os.getpid()


def test_results_come_in_order_and_are_counted() -> None:
    """In this process, with a word after each."""
    told: list[tuple[int, int]] = []
    results = list(each(with_process, [3, 1, 2], watch=lambda done, total: told.append((done, total))))
    assert results == [(3, os.getpid()), (1, os.getpid()), (2, os.getpid())]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_other_processes_give_the_same_order() -> None:
    """Two workers see the items, and nobody else does."""
    results = list(each(with_process, list(range(6)), workers=2))
    assert [item for item, _ in results] == list(range(6))
    assert os.getpid() not in {process for _, process in results}
