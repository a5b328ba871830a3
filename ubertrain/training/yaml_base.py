"""One configuration on top of another: what `base` and `only` mean."""

import difflib
from collections.abc import Mapping
from typing import Any

from ubertrain.errors import ConfigError

Places = dict[tuple[str | int, ...], str]
"""Key path -> "file:line"."""


def keep(values: dict[str, Any], places: Places, only: Any, where: str, path: tuple[str, ...] = ()) -> None:
    """Leave of a base what `only` names: a list names the keys of a mapping that stay, a mapping goes deeper.

    Args:
        values: the base's; changed.
        places: where they were written; changed.
        only: as in YAML, e.g. {"tasks": ["depth"], "data": {"train": ["rooms"]}}.
        where: the place of `only`, for messages.
        path: the keys that lead to `values`.

    Raises:
        ConfigError: `only` is neither, or names a key that the base does not have.
    """
    here = ".".join(("only", *path))
    if not isinstance(only, Mapping | list):
        raise ConfigError(f"{where}: {here} must be a list of keys or go deeper by a mapping, got {only!r}")
    for name in only:
        if not isinstance(name, str) or name not in values:
            near = difflib.get_close_matches(str(name), values, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"{where}: {here} names {name!r}; {hint}the base has {', '.join(values)}")
    if isinstance(only, Mapping):
        for name, deeper in only.items():
            if not isinstance(values[name], dict):
                raise ConfigError(f"{where}: {here}.{name}: the base has no keys there, but {values[name]!r}")
            keep(values[name], places, deeper, where, (*path, name))
        return
    for name in set(values) - set(only):
        del values[name]
        forget(places, (*path, name))


def lay_over(
    base: dict[str, Any], base_places: Places, values: dict[str, Any], places: Places, path: tuple[str, ...] = ()
) -> None:
    """Write `values` into `base`: mappings are joined key by key, anything else replaces what the base has."""
    for name, value in values.items():
        here = (*path, name)
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            lay_over(base[name], base_places, value, places, here)
        else:
            base[name] = value
            forget(base_places, here)
            base_places.update({known: place for known, place in places.items() if known[: len(here)] == here})


def forget(places: Places, path: tuple[str | int, ...]) -> None:
    """Drop the places of a key and of everything below it."""
    for known in [known for known in places if known[: len(path)] == path]:
        del places[known]
