"""Bytes as people write them: "6GiB" <-> 6442450944."""

import re

from ubertrain.errors import ConfigError

_FACTORS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
            "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
_PATTERN = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str | int) -> int:
    """Bytes in `text`: an int is bytes already; a string is a number and a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB).

    Raises:
        ConfigError: `text` is negative or is not a number followed by a known unit.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _PATTERN.fullmatch(str(text))
    if match is None or match[2].upper() not in _FACTORS:
        raise ConfigError(f"{text!r} is not a number of bytes; write it like 6GiB, 800MB or 1073741824")
    return int(float(match[1]) * _FACTORS[match[2].upper()])


def format_bytes(count: float) -> str:
    """`count` bytes with three significant digits and a binary unit, e.g. "1.50 GiB"."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while abs(value) >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    decimals = 0 if units[0] == "B" or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{decimals}f} {units[0]}"
