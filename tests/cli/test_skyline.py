"""Curves in characters."""

import pytest

from ubertrain.cli.skyline import place_of, skyline


def test_columns_are_as_high_as_the_values() -> None:
    """The highest fills all lines, half of it half of them, and an eighth of a line is the smallest step."""
    assert skyline([1, 2, 4], width=3, height=4) == ["  █", "  █", " ██", "███"]
    assert skyline([1, 8], width=2, height=1) == ["▁█"]


def test_few_values_are_wide_and_many_keep_their_highest() -> None:
    """No peak is lost between columns, wherever it is."""
    assert skyline([1, 2], width=7, height=2) == ["   ███", "██████"]
    for place in range(10):
        values = [1.0] * 10
        values[place] = 8.0
        (line,) = skyline(values, width=4, height=1)
        assert line[place_of(place, 10, 4)] == "█"


@pytest.mark.parametrize("count", [1, 5, 96, 97, 500])
def test_a_value_has_its_column(count: int) -> None:
    """Within the width, also the last one."""
    lines = skyline(range(1, count + 1))
    assert 0 <= place_of(count - 1, count) < len(lines[0]) <= 96
    assert lines[0][place_of(count - 1, count)] == "█"


@pytest.mark.parametrize("values", [[], [0, 0]])
def test_nothing_is_drawn_of_nothing(values: list[float]) -> None:
    """No values, or no height."""
    assert skyline(values) == []
