"""What the colours of a picture mean, written into it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ubertrain.annotation.picture import writing_scale

_SIZE, _PAD = 10, 2
_PAPER, _INK = (255, 255, 255), (30, 30, 30)
_SHARE = 0.5
"""Of the picture's height and width, at most."""


def legend(picture: np.ndarray, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    """`picture` with a patch of each entry's colour and its name in the lower left corner.

    As many entries as fit into half of the height, the first ones, and the number of the rest; none where half of the width has
    no room for a name. Names that are too long are cut off.

    Args:
        picture: (height, width, 3) uint8; is not written to.
        entries: names and RGB colours.
    """
    height, width = picture.shape[:2]
    scale = writing_scale(height, width)
    size, pad = round(_SIZE * scale), round(_PAD * scale)
    line = size + pad
    room = int(_SHARE * height - pad) // line
    lines = list(entries[:room])
    if len(entries) > room >= 2:
        lines = [*entries[: room - 1], (f"+ {len(entries) - room + 1}", _PAPER)]
    font = ImageFont.load_default(size)
    longest = max((font.getlength(name) for name, _ in lines), default=0.0)
    across = min(int(longest) + size + 3 * pad, int(_SHARE * width))
    if not lines or _SHARE * width < 3 * size:
        return picture
    strip = Image.new("RGB", (across, len(lines) * line + pad), _PAPER)
    pen = ImageDraw.Draw(strip)
    for place, (name, colour) in enumerate(lines):
        top = pad + place * line
        pen.rectangle((pad, top, pad + size - 1, top + size - 1), fill=colour)
        pen.text((size + 2 * pad, top - round(scale)), name, font=font, fill=_INK)
    drawn = picture.copy()
    drawn[height - strip.height :, :across] = np.asarray(strip)
    return drawn
