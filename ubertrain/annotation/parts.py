"""Parts of a body, or pieces of clothing: a class for every pixel, some classes in left and right pairs."""

import copyreg
import re
from abc import ABCMeta
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from ubertrain.annotation.class_map import ClassMap

Pairs = tuple[tuple[int, int], ...]
"""Ids that a flip exchanges."""


class _PartsType(ABCMeta):
    """The type of `Parts` and its kinds: a kind that `parts_kind` made is pickled as its pairs, others by their name."""


class Parts(ClassMap, metaclass=_PartsType):
    """As `ClassMap`, by convention with id 0 for the background; all background is a label: no part is visible.

    A kind of it that `parts_kind` makes exchanges the left and the right parts when an image is mirrored.
    """

    key = "parts"


def left_and_right(names: Sequence[str]) -> Pairs:
    """The pairs of ids whose names differ in "left" and "right" alone, such as "left arm" and "right arm" or "Left-shoe".

    Raises:
        ValueError: a name has one side only, so that a mirrored image would show a part that has no name.
    """
    by_name = {name.lower(): place for place, name in enumerate(names)}
    pairs = []
    for name, place in by_name.items():
        other = re.sub(r"(?<![a-z])(left|right)(?![a-z])", lambda side: "right" if side[0] == "left" else "left", name)
        if other == name:
            continue
        if other not in by_name:
            raise ValueError(f"there is a class {names[place]!r} but none called {other!r}, which it becomes when mirrored")
        pairs.append((place, by_name[other]))
    return tuple(sorted({(min(pair), max(pair)) for pair in pairs}))


def parts_kind(pairs: Sequence[tuple[int, int]]) -> type[Parts]:
    """`Parts` that exchanges the ids of each of `pairs` when an image is mirrored; `Parts` itself if there are none."""
    return _made(tuple((int(left), int(right)) for left, right in pairs)) if pairs else Parts


@cache
def _made(pairs: Pairs) -> type[Parts]:
    return cast("type[Parts]", _PartsType("Parts", (Parts,), {"mirrored": pairs, "__module__": __name__}))


def _reduced(kind: _PartsType) -> Any:
    pairs = vars(kind).get("mirrored", ())
    made = pairs and kind is _made(pairs)
    return (_made, (pairs,)) if made else kind.__qualname__


copyreg.pickle(_PartsType, _reduced)
