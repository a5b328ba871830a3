"""Cutting training and validation from one list."""

from pathlib import Path

import pytest

from ubertrain.data.selection import cut, folder, select
from ubertrain.errors import ConfigError, DataError

IDS = [str(number) for number in range(10)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(":", "0123456789"), ("0:3", "012"), ("7:", "789"), (":-8", "01"), ("::5", "05"), ("1:8:3", "147"), (" 2 : 4 ", "23")],
)
def test_ranges_are_those_of_python(text: str, expected: str) -> None:
    """A range picks what Python's brackets pick."""
    assert "".join(select(IDS, text, None)) == expected


@pytest.mark.parametrize("part", ["::5", ":7", "-3:", "1::2"])
def test_drop_and_take_of_one_range_divide_the_list(part: str) -> None:
    """What one set drops is what the other takes: nothing is shared, nothing lost."""
    train, val = select(IDS, ":", part), select(IDS, part, None)
    assert sorted(train + val) == IDS


@pytest.mark.parametrize("text", ["5", "", "a:b", "1:2:3:4", "::0", "::-1", "1.5:"])
def test_what_is_no_range_says_how_to_write_one(text: str) -> None:
    """Anything else names the key and shows the form; backward ranges are refused too."""
    with pytest.raises(ConfigError, match="take: .* is not a range; write start:stop:step in quotes"):
        cut(text, "take")


def test_variables_in_folders_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$VARIABLES and ~ stand for what they stand for in a shell; an unset one is mentioned."""
    monkeypatch.setenv("PHOTOS", str(tmp_path))
    monkeypatch.delenv("NOWHERE", raising=False)
    assert folder("$PHOTOS", "photos") == tmp_path
    with pytest.raises(DataError, match=r"no folder \$NOWHERE/x; a variable in it is not set; it should hold photos"):
        folder("$NOWHERE/x", "photos")
