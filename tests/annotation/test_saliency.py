"""Saliency masks: what they may hold, how they warp, their picture."""

import numpy as np
import pytest
import torch

from ubertrain.annotation import Saliency, Warp
from ubertrain.annotation.saliency import spotlight
from ubertrain.errors import DataError


def test_masks_hold_yes_no_and_unknown() -> None:
    """0, 1 and 255 pass; a mask as files keep it, 0 and 200, does not."""
    Saliency.check(torch.tensor([[0, 1, 255]]), (1, 3))
    Saliency.check(torch.zeros(1, 3, dtype=torch.int64), (1, 3))
    with pytest.raises(DataError, match=r"0, 1 and 255 \(unknown\); 2 pixels hold \[200\], \.\.\."):
        Saliency.check(torch.tensor([[0, 200, 200]]), (1, 3))


def test_objects_keep_their_area() -> None:
    """Enlarged twice, a mask covers four times the pixels; what comes from outside is unknown."""
    mask = torch.zeros(8, 8, dtype=torch.int64)
    mask[2:5, 3:5] = 1
    assert (Saliency.warp(mask, Warp.fit((8, 8), (16, 16))) == 1).sum() == 24
    assert (Saliency.warp(mask, Warp.about((8, 8), (8, 10)))[:, 0] == 255).all()


def test_the_picture_keeps_the_object_and_dims_the_rest() -> None:
    """Unknown pixels are grey."""
    picture = Saliency.draw(np.full((1, 3, 3), 200, np.uint8), torch.tensor([[0, 1, 255]]))
    assert picture[0].tolist() == [[40] * 3, [200] * 3, [128] * 3]


def test_light_follows_the_share() -> None:
    """Brighter where the prediction is surer, and never beyond the image."""
    lit = spotlight(np.full((1, 4, 3), 100, np.uint8), [[-1e6, 0.25, 0.75, 1e6]])
    assert lit[0, :, 0].tolist() == [20, 40, 80, 100]
