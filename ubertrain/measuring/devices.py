"""The table of devices: what they compute and move in a second and hold, from `devices.yaml` and the user's own files."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from ubertrain.errors import ConfigError
from ubertrain.measuring.speed import Speed
from ubertrain.units import parse_bytes

USER_FILE = "UBERTRAIN_DEVICES"
"""Environment variable: the path of a file of the form of `devices.yaml`; its rows win over those that come with ubertrain."""

COMPUTE_REACHED = 0.6
"""Fraction of the peak FLOP/s that convolutions and matrix products of training reach: one rule of thumb for all devices."""

BANDWIDTH_REACHED = 0.8
"""Fraction of the peak bandwidth that elementwise operations reach."""

NO_DEVICES = ("flops", "auto")
"""Names of costs that are no device, so that no device may have them."""

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Peaks(BaseModel):
    """Dense peaks of matrix products in 1e12 FLOP/s; a dtype that is left out runs at the rate of float32."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    float32: _Positive
    tf32: _Positive | None = None
    bfloat16: _Positive | None = None
    float16: _Positive | None = None


class Device(BaseModel):
    """One row of the table; `devices.yaml` explains the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tflops: Peaks
    gb_per_s: _Positive
    memory: Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
    overhead_us: _Positive = 5.0
    aliases: tuple[str, ...] = ()

    def speed(self) -> Speed:
        """What of its peaks the device reaches: `COMPUTE_REACHED` and `BANDWIDTH_REACHED` of them."""
        peaks = self.tflops.model_dump(exclude_none=True)
        flops = {dtype: COMPUTE_REACHED * 1e12 * peak for dtype, peak in peaks.items()}
        return Speed(flops, BANDWIDTH_REACHED * 1e9 * self.gb_per_s, 1e-6 * self.overhead_us)


Table = Mapping[str, Device]
_TABLE = TypeAdapter(dict[str, Device])


def find_device(name: str, file: str | Path | None = None, besides: Sequence[str] = ()) -> Device:
    """The device of that name; capitals do not matter, and blanks and underscores are as good as dashes ("RTX 4090").

    Args:
        name: of a row, or one of its aliases.
        file: more rows; they win over those of `UBERTRAIN_DEVICES`, and these over those that come with ubertrain.
        besides: what the caller takes for a name besides devices; the message tells.

    Raises:
        ConfigError: no row has the name, or a file is missing or malformed; names the near match, or file and key.
    """
    tables, wanted = _tables(file), _spelled(name)
    for table in tables:
        for row, found in table.items():
            if wanted == row or wanted in map(_spelled, found.aliases):
                return next(upper[row] for upper in tables if row in upper)
    known = [*dict.fromkeys(row for table in reversed(tables) for row in table), *besides]
    aliases = [_spelled(alias) for table in tables for found in table.values() for alias in found.aliases]
    raise ConfigError(
        f"unknown device {name!r};{_near(wanted, known + aliases)} known: {', '.join(known)}. "
        f"Add others in a YAML file that the environment variable {USER_FILE} names"
    )


def device_memory(name: str, file: str | Path | None = None) -> int:
    """Bytes of the device's memory as torch would report its total; arguments and errors as in `find_device`."""
    return find_device(name, file).memory


def _tables(file: str | Path | None) -> Sequence[Table]:
    """The tables at hand; the first that has a row wins."""
    files = (file, os.environ.get(USER_FILE))
    return [_read(Path(own)) for own in files if own] + [_own_table()]


@functools.cache
def _own_table() -> Table:
    return _parse(resources.files(__package__).joinpath("devices.yaml").read_text(encoding="utf-8"), "devices.yaml")


def _read(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot read the devices: it is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the devices: {error.strerror or error}") from error
    return _parse(text, str(path))


def _parse(text: str, file: str) -> Table:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected a mapping of device names to figures, got {type(values).__name__}")
    try:
        table = _TABLE.validate_python({_spelled(name): row for name, row in values.items()})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{file}: {_complaint(fault)}" for fault in error.errors())) from None
    _check_names(table, len(values), file)
    return table


def _check_names(table: Table, rows: int, file: str) -> None:
    names = [*table, *(_spelled(alias) for row in table.values() for alias in row.aliases)]
    twice = [name for name in names if names.count(name) > 1]
    if twice or len(table) < rows:
        which = f"the name {twice[0]!r} stands" if twice else "names that differ in capitals, blanks or underscores alone stand"
        raise ConfigError(f"{file}: {which} for two devices; rename one")
    for name in NO_DEVICES:
        if name in names:
            raise ConfigError(f"{file}: {name}: no device can have this name, it is a cost of its own; rename it")


def _complaint(fault: Any) -> str:
    """One pydantic error: which key, what is wrong, what would be right."""
    path = [str(part) for part in fault["loc"]]
    if fault["type"] == "extra_forbidden":
        known = list((Peaks if len(path) > 2 else Device).model_fields)
        return f"{'.'.join(path)}: unknown key {path[-1]!r};{_near(path[-1], known)} known: {', '.join(known)}"
    if fault["type"] == "missing":
        return f"the key {'.'.join(path)!r} is missing"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{'.'.join(path)}: {message}, got {fault['input']!r}"


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" did you mean {near[0]!r}?" if near else ""


def _spelled(name: object) -> str:
    return str(name).strip().lower().replace(" ", "-").replace("_", "-")
