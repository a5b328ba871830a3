"""The parts of an image over which published depth scores are computed."""

from typing import Literal

import torch
from torch import Tensor

Crop = Literal["none", "garg", "eigen", "nyu"]
"""
- "none": the whole image.
- "garg": KITTI, the lower part (Garg et al. 2016).
- "eigen": KITTI, as Eigen et al. 2014 are taken to have cropped; the numbers were found by Godard et al. 2017.
- "nyu": NYUv2, the part of 480 x 640 images onto which the Kinect's depth is projected (Eigen et al. 2014).
"""

_SIDES: dict[Crop, tuple[float, float, float, float]] = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "nyu": (45 / 480, 471 / 480, 41 / 640, 601 / 640),
}
"""Top and bottom as shares of the height, left and right as shares of the width."""


def cropped(crop: Crop, size: tuple[int, int]) -> Tensor:
    """Which pixels of an image of `size` = (height, width) count, (height, width) bool.

    The shares, and that fractions of a pixel are cut off, are those of the codes that the published numbers come from, so that
    an image of the data set's own size gives exactly their pixels.
    """
    inside = torch.zeros(size, dtype=torch.bool)
    if crop == "none":
        return ~inside
    top, bottom, left, right = _SIDES[crop]
    height, width = size
    inside[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
    return inside
