"""Which pixels belong to what catches the eye."""

from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.values import expect

_DIMMED = 0.2
_UNKNOWN_GREY = 128


class Saliency(ClassMap):
    """(height, width) int64: 1 on salient objects, 0 elsewhere, 255 unknown. All 0 is a label: nothing stands out."""

    key = "saliency"
    salient: ClassVar[int] = 1

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """Raise `DataError` unless `value` covers the image with 0, 1 and 255."""
        super().check(value, size)
        mask: Tensor = value
        bad = mask[(mask > 1) & (mask != cls.unknown)]
        expect(
            not bad.numel(), f"a saliency mask holds 0, 1 and 255 (unknown); {bad.numel()} pixels hold {bad[:1].tolist()}, ..."
        )

    @classmethod
    def draw(cls, image: np.ndarray, value: Any) -> np.ndarray:
        """The image with all but its salient objects dimmed; grey where nobody knows."""
        mask = np.asarray(value)
        lit = spotlight(image, mask == cls.salient)
        return np.where((mask == cls.unknown)[..., None], np.uint8(_UNKNOWN_GREY), lit)


def spotlight(image: np.ndarray, share: Any) -> np.ndarray:
    """`image` (height, width, 3) uint8 in full light where `share` (height, width) is 1, dimmed where it is 0."""
    light = _DIMMED + (1 - _DIMMED) * np.clip(np.asarray(share, dtype=np.float32), 0, 1)
    return (image * light[..., None]).astype(np.uint8)
