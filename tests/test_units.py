"""Bytes as people write them."""

import pytest

from ubertrain.errors import ConfigError
from ubertrain.units import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (0, 0),
        (1073741824, 2**30),
        ("0", 0),
        ("12", 12),
        ("12B", 12),
        ("6GiB", 6 * 2**30),
        ("6 gib", 6 * 2**30),
        ("  800MB ", 800_000_000),
        ("1.5kB", 1500),
        ("0.5TiB", 2**39),
        ("2TB", 2 * 10**12),
        ("3KiB", 3072),
        ("7MiB", 7 * 2**20),
        ("1.25GB", 1_250_000_000),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str | int, count: int) -> None:
    """A count is taken as it is; a number with a unit is multiplied, SI units by thousands and binary ones by 1024."""
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "6 GiBs", "6Gi", "six", "-1GiB", "1e9", "1,5GB", -1, True, None, "1 2", "nan"])
def test_anything_else_is_refused_with_an_example(text: object) -> None:
    """What is not a count of bytes is a ConfigError that repeats the text and shows how to write it."""
    with pytest.raises(ConfigError, match="is not a number of bytes; write it like 6GiB") as caught:
        parse_bytes(text)  # type: ignore[arg-type]
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1.5 * 2**30, "1.50 GiB"),
        (-3 * 2**20, "-3.00 MiB"),
        (12.34 * 2**20, "12.3 MiB"),
        (999.9 * 2**20, "1000 MiB"),
        (1023.9 * 2**10, "1024 KiB"),
        (2**50, "1024 TiB"),
    ],
)
def test_counts_are_written_with_three_digits(count: float, text: str) -> None:
    """A count is written in the largest binary unit that it reaches, never in powers of ten."""
    assert format_bytes(count) == text


@pytest.mark.parametrize("count", [0, 1, 1023, 2**10, 2**20, 5 * 2**30, 7 * 2**40])
def test_what_is_written_can_be_read(count: int) -> None:
    """Counts that three digits hold exactly survive being written and read."""
    assert parse_bytes(format_bytes(count)) == count
