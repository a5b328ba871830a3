"""Which samples of a list a data set keeps, so that training and validation can be cut from one list."""

import os
from collections.abc import Sequence
from pathlib import Path

from ubertrain.errors import ConfigError, DataError


def cut(text: str, key: str) -> slice:
    """A range as Python reads it between brackets, start:stop:step with every part optional, e.g. ":60", "60:", "::5".

    Raises:
        ConfigError: `text` is not of that form; names `key`.
    """
    parts = str(text).split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    step = numbers[2] if len(numbers) == 3 else None
    if not 2 <= len(numbers) <= 3 or (step is not None and step < 1):
        raise ConfigError(f"{key}: {text!r} is not a range; write start:stop:step in quotes, e.g. ':60', '60:' or '::5'")
    return slice(*numbers)


def select(ids: Sequence[str], take: str, drop: str | None) -> tuple[str, ...]:
    """The `take` part of what is left of `ids` without its `drop` part.

    With `drop: X` here and `take: X` there, nothing is shared and nothing is lost.
    """
    dropped = set(ids[cut(drop, "drop")]) if drop is not None else set()
    return tuple([name for name in ids if name not in dropped][cut(take, "take")])


def folder(root: str | Path, expected: str) -> Path:
    """`root` as a path, with ~ and $VARIABLES filled in.

    Raises:
        DataError: there is no such folder; says that it should hold `expected`.
    """
    path = Path(os.path.expandvars(str(root))).expanduser()
    if not path.is_dir():
        unset = "; a variable in it is not set" if "$" in str(path) else ""
        raise DataError(f"there is no folder {path}{unset}; it should hold {expected}")
    return path
