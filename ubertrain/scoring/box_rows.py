"""Boxes of one image as files hold them, and what the numbers in a file mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ubertrain.errors import DataError

Layout = Literal["xyxy", "xywh"]
"""Four numbers of a box: two corners, or the upper left corner, width and height."""

Pixels = Literal["edges", "from_0", "from_1"]
"""
- "edges": coordinates are borders between pixels; x1 - x0 is the width (COCO, most networks).
- "from_0": pixels are counted from 0 and both ends are in the box; x1 - x0 + 1 is the width.
- "from_1": the same, counted from 1 (VOC).

A width that is stored is the width, however pixels are counted.
"""


class Box(NamedTuple):
    """A line of a file.

    Attributes:
        kind: index of the class.
        corners: x0 y0 x1 y1, borders between pixels.
        mark: a detection's score; for true boxes 1 = counts neither way (difficult, crowd), else 0.
        area: in square pixels; what COCO sorts objects into sizes by.
    """

    kind: int
    corners: tuple[float, float, float, float]
    mark: float
    area: float


Images = Mapping[str, Sequence[Box]]
"""Image id -> its boxes, in the order of the file."""


@dataclass(frozen=True)
class TrueBoxes:
    """The truth of a data set.

    Attributes:
        classes: names in the order of their indices.
        images: all images that are labelled, also those without objects.
        categories: COCO's category id -> index; empty unless the truth is COCO's.
        numbers: COCO's image id -> id; empty unless the truth is COCO's.
    """

    classes: tuple[str, ...]
    images: Images
    categories: Mapping[int, int]
    numbers: Mapping[int, str]

    def kind(self, word: str, where: str) -> int:
        """The index of a class from its name, or from the index itself.

        Raises:
            DataError: there is no such class; begins with `where`.
        """
        if word in self.classes:
            return self.classes.index(word)
        if word.isdecimal() and int(word) < len(self.classes):
            return int(word)
        shown = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        raise DataError(f"{where}: class {word!r} is neither one of the {len(self.classes)} classes ({shown}) nor an id of one")


def corners_of(numbers: Sequence[float], layout: Layout, pixels: Pixels) -> tuple[float, float, float, float]:
    """Four stored numbers as x0 y0 x1 y1, borders between pixels."""
    x0, y0, x1, y1 = numbers
    low = {"edges": 0, "from_0": 0, "from_1": -1}[pixels]
    if layout == "xywh":
        return x0 + low, y0 + low, x0 + low + x1, y0 + low + y1
    high = {"edges": 0, "from_0": 1, "from_1": 0}[pixels]
    return x0 + low, y0 + low, x1 + high, y1 + high


def make_box(kind: int, numbers: Sequence[float], mark: float, layout: Layout, pixels: Pixels, where: str) -> Box:
    """A box from the numbers of a file.

    Raises:
        DataError: a number that is not finite, or a side of negative length; begins with `where`.
    """
    x0, y0, x1, y1 = corners = corners_of(numbers, layout, pixels)
    if not math.isfinite(mark):
        raise DataError(f"{where}: its score {mark:g} is not finite; what made it has diverged")
    if not all(map(math.isfinite, corners)):
        raise DataError(f"{where}: {' '.join(f'{number:g}' for number in numbers)} is not finite; what made it has diverged")
    if x1 < x0 or y1 < y0:
        stored = " ".join(f"{number:g}" for number in numbers)
        raise DataError(f"{where}: {stored} is no box: as {layout} its width is {x1 - x0:g}, its height {y1 - y0:g}")
    return Box(kind, corners, mark, (x1 - x0) * (y1 - y0))


def read_lines(path: Path) -> list[tuple[str, list[str]]]:
    """The words of every line that has any, each with "FILE, line N" to begin an error with.

    Raises:
        DataError: the file cannot be read as text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    return [(f"{path}, line {number}", line.split()) for number, line in enumerate(lines, 1) if line.strip()]


def read_numbers(words: Sequence[str], where: str, expected: str) -> list[float]:
    """The words as numbers.

    Raises:
        DataError: one is none; says what a line is `expected` to hold.
    """
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise DataError(f"{where}: {' '.join(words)!r} are not numbers; expected {expected}") from error
