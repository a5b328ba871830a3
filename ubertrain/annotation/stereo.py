"""What a second camera beside the first one sees."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.ramp import turbo
from ubertrain.annotation.values import expect, expect_tensor
from ubertrain.annotation.warp import Warp
from ubertrain.errors import DataError


class Stereo(Annotation):
    """A rectified pair of views: the image itself and what a camera beside it saw at the same time, row by row.

    A dict of

    - "own", "other": (3, height, width) uint8, the image and the other camera's.
    - "side": () float32, 1 if the other camera stands to the right, as usual, and -1 if it stands to the left. What this image
      shows at column x the other shows at x - side * disparity * width.
    - "disparity": (height, width) float32, the true shift as a share of the width; 0 is unknown, as it may be everywhere.
    - "scale": () float32, depth in metres times disparity, which is baseline times focal length over width; 0 is unknown.
    - "valid": (height, width) bool, where the image shows something.

    Both views follow one warp. **A flip changes sides**: the mirrored image is what the *right* camera would see of the
    mirrored world. So the image stays the one that all other labels belong to, and it is the side that is exchanged.
    """

    key = "stereo"
    views: ClassVar[tuple[str, str]] = ("own", "other")

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """Raise `DataError` unless `value` holds two views of the image's size and what goes with them."""
        names = {"own", "other", "side", "disparity", "scale", "valid"}
        expect(isinstance(value, dict) and set(value) == names, f"stereo must be a dict with {', '.join(sorted(names))}")
        for name in cls.views:
            expect_tensor(value[name], f"stereo view {name!r}", (3, *size), torch.uint8)
        expect_tensor(value["valid"], "stereo's valid pixels", size, torch.bool)
        disparity = expect_tensor(value["disparity"], "disparity", size, torch.float32)
        sound = disparity.isfinite() & (disparity >= 0)
        expect(sound.all(), f"disparity is negative or not finite at {int((~sound).sum())} pixels; mark unknown ones as 0")
        side = expect_tensor(value["side"], "stereo's side", (), torch.float32)
        expect(float(side) in (1.0, -1.0), f"stereo's side is 1 (the other camera is to the right) or -1; got {float(side):g}")
        scale = expect_tensor(value["scale"], "stereo's scale", (), torch.float32)
        expect(scale.isfinite() and scale >= 0, f"stereo's scale is metres, 0 where unknown; got {float(scale):g}")

    @classmethod
    def warp(cls, value: Any, warp: Warp) -> dict[str, Tensor]:
        """Both views bilinearly, as the image itself; disparity from the nearest pixel, times what the zoom makes of it.

        `scale` follows `Depth`, whose metres an enlargement divides: depth is `scale` over disparity before and after.

        Raises:
            DataError: the warp rotates, after which the shift is not along the rows any more.
        """
        (across, b, _), (c, _, _) = warp.matrix
        if max(abs(b), abs(c)) > 1e-6 * warp.zoom:
            raise DataError(
                "a stereo pair cannot be rotated, since its views are shifted along rows; set degrees: 0 in its warp"
            )
        widths = value["own"].shape[-1] / warp.size[1]
        views = {
            name: warp.sample(value[name].float(), mode="bilinear", fill=0.0).round().to(torch.uint8) for name in cls.views
        }
        disparity = warp.sample(value["disparity"][None], mode="nearest", fill=0.0)[0]
        return {
            **views,
            "side": -value["side"] if across < 0 else value["side"],
            "disparity": disparity * (warp.zoom * widths),
            "scale": value["scale"] * (warp.natural * widths),
            "valid": warp.sample(value["valid"][None].to(torch.uint8), mode="nearest", fill=0)[0] > 0,
        }

    @classmethod
    def collate(cls, values: list[Any]) -> dict[str, Tensor]:
        """The same dict with a first dimension of rows."""
        return {name: torch.stack([value[name] for value in values]) for name in values[0]}

    @classmethod
    def draw(cls, image: np.ndarray, value: Any) -> np.ndarray:
        """The true disparity if it is known anywhere, else the other view."""
        disparity = np.asarray(value["disparity"])
        if (disparity > 0).any():
            return draw_disparity(disparity)
        return np.ascontiguousarray(np.asarray(value["other"]).transpose(1, 2, 0))


def stereo_value(
    own: Tensor, other: Tensor, *, disparity: Tensor | None = None, scale: float = 0.0, side: float = 1.0
) -> dict[str, Tensor]:
    """A value of `Stereo` from its views (3, height, width) uint8, whatever else is known of them.

    Args:
        own: the image.
        other: the other camera's.
        disparity: (height, width) float32, as a share of the width; None is unknown.
        scale: metres; 0 is unknown.
        side: 1 if the other camera stands to the right, else -1.
    """
    size = own.shape[-2:]
    return {
        "own": own,
        "other": other,
        "side": torch.tensor(side),
        "disparity": torch.zeros(size) if disparity is None else disparity,
        "scale": torch.tensor(float(scale)),
        "valid": torch.ones(size, dtype=torch.bool),
    }


def draw_disparity(disparity: np.ndarray) -> np.ndarray:
    """Disparities (height, width) as a picture: near is red, far is blue, 0 is black."""
    known = disparity > 0
    most = float(np.percentile(disparity[known], 98)) if known.any() else 1.0
    place = (disparity / max(most, 1e-6)).clip(0, 1)
    # The outermost colours are nearly black, which is kept for what is unknown.
    return np.where(known[..., None], turbo(0.05 + 0.9 * place), np.uint8(0))
