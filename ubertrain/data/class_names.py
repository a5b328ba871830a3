"""Class names as people write them in a configuration, against the names a data set has."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from ubertrain.errors import ConfigError


def pick(names: Sequence[str], known: Sequence[str], where: str) -> tuple[str, ...]:
    """`names`, once it is clear that the data set has them all, each asked for once.

    Raises:
        ConfigError: a name that is unknown (with a near match) or given twice, or no name at all.
    """
    for position, name in enumerate(names):
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            raise ConfigError(f"{where}: no class {name!r}" + (f"; did you mean {near[0]!r}?" if near else _listing(known)))
        if name in names[:position]:
            raise ConfigError(f"{where}: class {name!r} is given twice")
    if not names:
        raise ConfigError(f"{where}: the list of classes is empty")
    return tuple(names)


def group(
    wanted: Sequence[str] | Mapping[str, Sequence[str]], known: Sequence[str], rest: str, where: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    """New classes made of known ones.

    Args:
        wanted: a list of known names, one class each; or new name -> known names.
        known: the names the data set has.
        rest: what becomes of all others: "ignore", or the name of a class; a class that `wanted` does not name comes first,
            with id 0.
        where: what an error message begins with.

    Returns:
        The names of the new classes in the order of their ids, and known name -> new id (255 = ignore).

    Raises:
        ConfigError: as `pick`.
    """
    groups = dict(wanted) if isinstance(wanted, Mapping) else {name: [name] for name in pick(wanted, known, where)}
    pick([name for members in groups.values() for name in members], known, where)
    names = list(groups)
    if rest != "ignore" and rest not in names:
        names.insert(0, rest)
    others = 255 if rest == "ignore" else names.index(rest)
    ids = dict.fromkeys(known, others)
    ids.update((member, names.index(name)) for name, members in groups.items() for member in members)
    return tuple(names), ids


def _listing(known: Sequence[str]) -> str:
    return f"; it has {', '.join(known)}" if len(known) <= 30 else f"; it has {len(known)}, from {known[0]!r} to {known[-1]!r}"
