"""Revolve: the published formula, and that its schedules reach it."""

from functools import cache

import pytest

from ubertrain.errors import ScheduleError
from ubertrain.planning.revolve import least_runs, revolve
from ubertrain.planning.schedule import Item, Span


@cache
def by_recurrence(count: int, held: int) -> int:
    """Fewest runs by trying every place for the next value that is held."""
    if count == 1:
        return 0
    if held == 1:
        return count * (count - 1) // 2
    splits = range(1, count)
    return min(split + by_recurrence(split, held) + by_recurrence(count - split, held - 1) for split in splits)


def runs(items: tuple[Item, ...]) -> int:
    """Runs of a list of stages, the last one's own, whose backward follows at once, not counted."""
    inner = sum(runs(item.items) for item in items if isinstance(item, Span))
    return inner + sum(len(leaves(item.items)) for item in items if isinstance(item, Span))


def leaves(items: tuple[Item, ...]) -> list[str]:
    """All stages of a list."""
    return [name for item in items for name in (leaves(item.items) if isinstance(item, Span) else [str(item)])]


@pytest.mark.parametrize("held", range(1, 9))
def test_the_formula_is_the_recurrence(held: int) -> None:
    """`least_runs` equals the optimum over all places of the next held value."""
    assert [least_runs(count, held) for count in range(1, 60)] == [by_recurrence(count, held) for count in range(1, 60)]


@pytest.mark.parametrize("held", range(1, 9))
def test_schedules_reach_the_formula(held: int) -> None:
    """The nested spans run stages exactly as often as the formula says, and name each stage once, in order."""
    for count in range(1, 60):
        stages = [f"s{number}" for number in range(count)]
        schedule = revolve(stages, ["t"], held)
        assert runs(schedule.trunk) == least_runs(count, held)
        assert schedule.stages == tuple(stages)


KNOWN = [
    (1, "((((a) b) c) d) e"),
    (2, "((a) b) ((c) d) e"),
    (3, "(a) (b) ((c) d) e"),
    (5, "(a) (b) (c) (d) e"),
]


@pytest.mark.parametrize(("held", "trunk"), KNOWN)
def test_known_schedules(held: int, trunk: str) -> None:
    """With no room but for the input everything nests; with room for all each stage is run again once."""
    assert str(revolve("abcde", ["t"], held)) == f"{trunk} | t"


def test_revolve_needs_room_for_the_input() -> None:
    """held = 0 is refused."""
    with pytest.raises(ScheduleError, match="held=0"):
        revolve("abc", [], 0)
