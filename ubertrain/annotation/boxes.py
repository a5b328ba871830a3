"""Boxes around objects, each with a class."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.palette import VOID, class_colour
from ubertrain.annotation.picture import writing_scale
from ubertrain.annotation.values import expect, expect_tensor
from ubertrain.annotation.warp import Warp


class Boxes(Annotation):
    """A dict of one row per object; no rows at all is a valid label and says that the image shows none.

    - "boxes": (objects, 4) float32, x0 y0 x1 y1 in pixels, continuous: the box of a single pixel at the origin is 0 0 1 1.
    - "classes": (objects,) int64, ids from 0; there is no background class.
    - "ignore": (objects,) bool; an object that counts neither as found nor as missed (crowds, difficult or cut-off objects).

    Collated, the images share one table whose unused rows have class -1 (and ignore False), with at least one row.
    """

    key = "boxes"
    min_visible: ClassVar[float] = 0.25
    """A box of which a warp leaves a smaller part in view becomes `ignore`."""
    min_side: ClassVar[float] = 1.0
    """So does a box that a warp makes thinner than this, in output pixels."""
    slack: ClassVar[float] = 0.5
    """How far, in pixels, rounded annotations may stand out of their image."""

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """Raise `DataError` unless each box has positive sides, lies in the image, and has a class id and an ignore flag."""
        expect(isinstance(value, dict), f"boxes must be a dict, not {type(value).__name__}")
        missing = {"boxes", "classes", "ignore"} - set(value)
        expect(not missing, f"boxes lack the entry {sorted(missing)}; they need boxes, classes and ignore")
        boxes = expect_tensor(value["boxes"], "boxes", (None, 4), torch.float32)
        classes = expect_tensor(value["classes"], "classes of the boxes", (len(boxes),), torch.int64)
        expect_tensor(value["ignore"], "ignore of the boxes", (len(boxes),), torch.bool)
        limit = torch.tensor([size[1], size[0]]) + cls.slack
        _expect_all(boxes.isfinite().all(dim=1), boxes, "is not finite")
        _expect_all((boxes[:, 2:] > boxes[:, :2]).all(dim=1), boxes, "is not x0 y0 x1 y1 with x1 > x0 and y1 > y0")
        inside = ((boxes[:, :2] >= -cls.slack) & (boxes[:, 2:] <= limit)).all(dim=1)
        _expect_all(inside, boxes, f"is outside the image, which is {size[1]} wide and {size[0]} high")
        _expect_all(classes >= 0, boxes, "has a negative class id")

    @classmethod
    def warp(cls, value: Any, warp: Warp) -> dict[str, Tensor]:
        """The upright boxes around the warped boxes, clipped to the output.

        Flips, shifts, zooms and quarter turns are exact. Any other rotation by `t` encloses the rotated box, not the object,
        and so widens boxes by up to |cos t| + |sin t|. A box that is out of view is dropped; one that is mostly out of view
        (`min_visible`) or too thin (`min_side`) becomes `ignore`, since whether it should be found is a matter of taste.
        """
        x0, y0, x1, y1 = value["boxes"].unbind(dim=1)
        corners = warp.points(torch.stack([x0, y0, x1, y0, x0, y1, x1, y1], dim=1).unflatten(1, (4, 2)))
        low, high = corners.amin(dim=1), corners.amax(dim=1)
        limit = torch.tensor([warp.size[1], warp.size[0]], dtype=low.dtype)
        clipped_low, clipped_high = low.clamp(min=0).minimum(limit), high.clamp(min=0).minimum(limit)
        side = clipped_high - clipped_low
        visible = side.prod(dim=1) / (high - low).prod(dim=1)
        doubtful = (visible < cls.min_visible) | (side < cls.min_side).any(dim=1)
        warped = dict(value, boxes=torch.cat([clipped_low, clipped_high], dim=1), ignore=value["ignore"] | doubtful)
        in_view = (side > 0).all(dim=1)
        return {name: rows[in_view] for name, rows in warped.items()}

    @classmethod
    def collate(cls, values: list[Any]) -> dict[str, Tensor]:
        """Entries boxes (rows, most, 4), classes (rows, most) with -1 in unused places, ignore (rows, most); most >= 1."""
        most = max(1, *(len(value["classes"]) for value in values))
        table = {
            "boxes": torch.zeros(len(values), most, 4),
            "classes": torch.full((len(values), most), -1),
            "ignore": torch.zeros(len(values), most, dtype=torch.bool),
        }
        for row, value in enumerate(values):
            for name, column in table.items():
                column[row, : len(value[name])] = value[name]
        return table

    @classmethod
    def draw(cls, image: np.ndarray, value: Any, *, names: Sequence[str] = ()) -> np.ndarray:
        """`image` with a frame and a name (or class id) per box; ignored boxes are grey, unused rows left out.

        A name that would lie on that of a box before, which is the more certain one, is left out as well. A prediction, with
        "scores" and without "ignore", can be drawn, too.
        """
        picture = Image.fromarray(image)
        scale = writing_scale(*image.shape[:2])
        pen, font = ImageDraw.Draw(picture), ImageFont.load_default(10 * scale)
        scores = value["scores"].tolist() if "scores" in value else [None] * len(value["classes"])
        ignore = value["ignore"].tolist() if "ignore" in value else [False] * len(value["classes"])
        titles = []
        for box, kind, score, grey in zip(value["boxes"].tolist(), value["classes"].tolist(), scores, ignore, strict=True):
            if kind >= 0:
                title = names[kind] if kind < len(names) else str(kind)
                colour = VOID if grey else class_colour(kind + 1)
                # Continuous x1 is the far border of the last pixel, PIL's is the pixel itself.
                frame = (*box[:2], max(box[0], box[2] - 1), max(box[1], box[3] - 1))
                pen.rectangle(frame, outline=colour, width=round(1.5 * scale))
                titles.append((box, title if score is None else f"{title} {score:.2f}", colour))
        _write(pen, font, scale, picture.size, titles)  # on top of all frames
        return np.asarray(picture)


def _expect_all(good: Tensor, boxes: Tensor, complaint: str) -> None:
    """Raise `DataError` that quotes the first of `boxes` that is not `good`."""
    if not good.all():
        first = int((~good).int().argmax())
        numbers = " ".join(f"{number:g}" for number in boxes[first].tolist())
        expect(False, f"box {first} of {len(boxes)} ({numbers}) {complaint}")


def _write(
    pen: ImageDraw.ImageDraw, font: Any, scale: float, size: tuple[int, int],
    titles: Sequence[tuple[Sequence[float], str, tuple[int, int, int]]],
) -> None:  # fmt: skip
    """The titles of boxes, above them or in their upper corner, else below; whole, and only where no other stands."""
    line, taken = 13 * scale, np.zeros((0, 4))
    for (x0, y0, _, y1), title, colour in titles:
        left = max(2.0, min(x0 + 2, size[0] - 2 - font.getlength(title)))
        for place in ((left, y0 - line if y0 >= line else y0 + 2), (left, min(y1 + 2, size[1] - line))):
            low_x, low_y, high_x, high_y = pen.textbbox(place, title, font=font)
            area = np.array([low_x - 2, low_y - 1, high_x + 1, high_y + 1])
            if not ((area[:2] <= taken[:, 2:]) & (area[2:] >= taken[:, :2])).all(axis=1).any():
                pen.rectangle(tuple(area), fill=colour)
                pen.text(place, title, font=font, fill=(0, 0, 0) if sum(colour) > 300 else (255, 255, 255))
                taken = np.vstack([taken, area])
                break
