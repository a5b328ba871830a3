"""The distance of every pixel along the optical axis."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.ramp import turbo
from ubertrain.annotation.values import expect, expect_tensor
from ubertrain.annotation.warp import Warp


class Depth(Annotation):
    """(height, width) float32 metres along the optical axis; 0 is no reading."""

    key = "depth"

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """Raise `DataError` unless `value` covers the image with finite numbers from 0."""
        depth = expect_tensor(value, "depth", size, torch.float32)
        broken = int((~depth.isfinite()).sum())
        expect(not broken, f"depth is not finite at {broken} pixels; mark missing readings as 0")
        lowest = float(depth.min())
        expect(lowest >= 0, f"depth is negative, down to {lowest:g}; mark missing readings as 0")

    @classmethod
    def warp(cls, value: Any, warp: Warp) -> Tensor:
        """The nearest reading divided by the warp's magnification; nearest, so that no reading is mixed with none.

        The model is one camera for the whole data set: an image enlarged by z is what a camera of z times the focal length
        sees. To a network that believes in the data set's own focal length, things z times as large are z times as near
        (Metric3D's canonical camera, Yin et al., ICCV 2023, label transform; Eigen et al., NIPS 2014, section 3.4). That own
        focal length is the one of whole images fitted into the network's input, where a metre therefore is a metre.
        """
        return warp.sample(value[None], mode="nearest", fill=0.0)[0] / warp.magnification

    @classmethod
    def collate(cls, values: list[Any]) -> Tensor:
        """(rows, height, width) float32."""
        return torch.stack(values)

    @classmethod
    def draw(cls, image: np.ndarray, value: Any, *, between: tuple[float, float] | None = None) -> np.ndarray:
        """Near is red, far is blue, no reading is black.

        Args:
            image: (height, width, 3) uint8; it is not shown.
            value: (height, width) metres.
            between: the depths of both ends of the ramp; without it the nearest and farthest fiftieth set them. Give both
                pictures of a comparison the same.
        """
        depth = np.asarray(value, dtype=np.float32)
        near, far = between or cls.span(value)
        place = (np.log(np.maximum(depth, 1e-6)) - np.log(near)) / np.log(far / near)
        # The outermost colours are nearly black, which is kept for no reading.
        return np.where((depth > 0)[..., None], turbo(0.95 - 0.9 * place.clip(0, 1)), np.uint8(0))

    @staticmethod
    def span(value: Any) -> tuple[float, float]:
        """The 2nd and 98th percentile of the readings in metres, never equal."""
        depth = np.asarray(value, dtype=np.float32)
        readings = depth[depth > 0]
        near, far = np.percentile(readings, [2, 98]) if readings.size else (1.0, 1.0)
        return float(near), max(float(far), float(near) * 1.01)
