"""Names for stages, from the paths of the modules whose operations they hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from torch import nn

_UNUSABLE = re.compile(r"[\s()\[\]|,=]")


@dataclass(frozen=True)
class Held:
    """What a stage is named after.

    Attributes:
        products: paths of the modules whose convolutions and matrix products it holds.
        layers: paths of the layers it calls, those that learn first.
        paths: paths of all modules whose operations it holds.
        operation: a name for what it does last.
        taps: names its output must be found under, each the beginning of the next.
    """

    products: Sequence[str] = ()
    layers: Sequence[str] = ()
    paths: Sequence[str] = ()
    operation: str = "body"
    taps: Sequence[str] = ()


def name_stages(stages: Sequence[Held]) -> list[str]:
    """A name for each stage: unique, none the beginning of another's; a tap is the beginning of no later stage's.

    A stage that is exactly a module has its path; a piece is named after the products or else the layers in it. Where two
    would have one name, or one name begins another, they are numbered: "block.0", "block.1".
    """
    names: list[str] = []
    passed: list[str] = []
    holders = _holders(stages)
    for stage in stages:
        name = _usable(_preferred(stage, holders))
        if stage.taps and not all(_within(tap, name) for tap in stage.taps):
            name = stage.taps[-1]
        elif any(_within(tap, name) for tap in passed):
            name = f"after_{name}"
        names.append(name)
        passed += stage.taps
    return _apart(names)


def _apart(names: Sequence[str]) -> list[str]:
    """The names, with numbers where two are alike or one begins another."""
    result = list(names)
    for base in sorted(dict.fromkeys(names), key=lambda name: name.count(".")):  # a number in an outer one frees the inner
        same = [i for i, name in enumerate(names) if name == base]
        if len(same) > 1 or any(name != base and _within(base, name) for name in names):
            for i in same:
                result[i] = _numbered(base, [other for other in result if other != base])
    return result


def _numbered(base: str, others: Sequence[str]) -> str:
    numbered = (f"{base}.{number}" for number in count())
    return next(name for name in numbered if not any(_within(name, other) or _within(other, name) for other in others))


def _holders(stages: Sequence[Held]) -> Counter[str]:
    """Path of a module -> how many stages hold operations of it or of something in it."""
    return Counter(path for stage in stages for path in {outer for inner in stage.paths for outer in _outwards(inner)})


def _outwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]


def _preferred(stage: Held, holders: Counter[str]) -> str:
    if holders[everything := _common(stage.paths)] == 1:
        return everything
    name = _common(stage.products) or next(iter([*stage.products, *stage.layers, *filter(None, stage.paths)]), "")
    return _enclosing(name, stage.paths, holders) if name else stage.operation


def _enclosing(name: str, paths: Sequence[str], holders: Counter[str]) -> str:
    """The smallest module around `name` that holds most of `paths` and nothing of other stages."""
    around = [name, *(path for path in _outwards(name) if path != name and holders[path] == 1)]
    return max(around, key=lambda path: sum(_within(path, other) for other in paths))


def _within(path: str, other: str) -> bool:
    """Whether `other` is `path` or something in it."""
    return other == path or other.startswith(f"{path}.")


def _common(paths: Sequence[str]) -> str:
    """The longest path that holds all of `paths`."""
    parts = [path.split(".") for path in paths]
    same = 0
    while parts and all(len(part) > same for part in parts) and len({part[same] for part in parts}) == 1:
        same += 1
    return ".".join(parts[0][:same]) if parts else ""


def _usable(name: str) -> str:
    """Without what a schedule's text or `nn.ModuleDict` refuses."""
    parts = (_UNUSABLE.sub("_", part) or "_" for part in name.split("."))
    return ".".join(f"{part}_" if hasattr(nn.ModuleDict, part) else part for part in parts)
