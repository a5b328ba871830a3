"""Pictures of several pictures: "image | truth | prediction" sheets."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP = 6
_TITLE_HEIGHT = 14
_LOOKED_AT = 480
_PAPER, _INK, _ABSENT = (255, 255, 255), (40, 40, 40), (236, 236, 236)


class Tile(NamedTuple):
    """One picture of a sheet and what is written above it.

    Attributes:
        title: a few words; may be empty.
        picture: (height, width, 3) uint8, or None for what does not exist (a label that the image does not carry).
    """

    title: str
    picture: np.ndarray | None


def contact_sheet(rows: Sequence[Sequence[Tile | tuple[str, np.ndarray | None]]]) -> np.ndarray:
    """Rows of titled tiles on white paper, (height, width, 3) uint8; columns are aligned, absent pictures are grey fields."""
    table = [[Tile(*tile) for tile in row] for row in rows]
    columns = max(len(row) for row in table)
    widths = [max(_side(row[column], 1) for row in table if column < len(row)) for column in range(columns)]
    heights = [max(_side(tile, 0) for tile in row) + _TITLE_HEIGHT for row in table]
    sheet = Image.new("RGB", (sum(widths) + _GAP * (columns + 1), sum(heights) + _GAP * (len(table) + 1)), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    top = _GAP
    for row, height in zip(table, heights, strict=True):
        left = _GAP
        for tile, width in zip(row, widths, strict=False):
            pen.text((left, top), _shortened(tile.title, width, font), font=font, fill=_INK)
            if tile.picture is None:
                pen.rectangle((left, top + _TITLE_HEIGHT, left + width - 1, top + height - 1), fill=_ABSENT)
            else:
                sheet.paste(Image.fromarray(tile.picture), (left, top + _TITLE_HEIGHT))
            left += width + _GAP
        top += height + _GAP
    return np.asarray(sheet)


def writing_scale(height: int, width: int) -> float:
    """By how much writing is enlarged on a picture: a large one is looked at from farther away, or made smaller for a sheet."""
    return max(1.0, max(height, width) / _LOOKED_AT)


def blend(image: np.ndarray, colours: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """`colours` over a greyed `image`, both (height, width, 3) uint8; strength 1 hides the image."""
    grey = image.mean(axis=-1, keepdims=True)
    return ((1 - strength) * grey + strength * colours).astype(np.uint8)


def _side(tile: Tile, axis: int) -> int:
    """Height (0) or width (1) that a tile asks for; an absent picture is content with what its neighbours have."""
    return 1 if tile.picture is None else tile.picture.shape[axis]


def _shortened(title: str, width: int, font: Any) -> str:
    """As much of `title` as `width` pixels show."""
    if font.getlength(title) <= width:
        return title
    while title and font.getlength(title + "...") > width:
        title = title[:-1]
    return title + "..."
