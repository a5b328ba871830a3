"""A task's answer drawn on the photograph that it is about, which need not have the shape of the network's input."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.warp import Warp
from ubertrain.ops.pixels import to_size
from ubertrain.task import Task

_PIXELS, _VALUES = 2**22, 2**25
"""How many pixels are drawn and how many numbers are enlarged for them, at most; a larger photograph is drawn smaller."""
_SHORTER, _STRIDE = 0.75, 64
"""A map of the input has at least this share of its sides, and exceeds them by less than a stride."""


def as_array(image: Tensor) -> np.ndarray:
    """A (3, height, width) uint8 tensor as a (height, width, 3) picture."""
    return image.permute(1, 2, 0).contiguous().numpy()


def resampled(image: Tensor, warp: Warp) -> Tensor:
    """A (3, height, width) uint8 image as `warp` shows it, of the same type, padded with black."""
    return warp.sample(image.float(), mode="bilinear", fill=0.0).round().to(torch.uint8)


def no_larger(size: tuple[int, int], zoom: float) -> tuple[int, int]:
    """`size` = (height, width) times `zoom`, or itself where that were larger."""
    zoom = min(1.0, zoom)
    return max(1, round(size[0] * zoom)), max(1, round(size[1] * zoom))


def draw_on(photo: Tensor, task: Task, prediction: Any, fit: Warp) -> np.ndarray:
    """`prediction` on the part of the network's input that the photograph covers, in the photograph's pixels.

    Maps are cut to that part and enlarged before the task draws them, so that what it writes at the border is seen whole.
    An answer that is neither boxes nor maps is drawn on the whole input, and the picture is cut.

    Args:
        photo: (3, height, width) uint8.
        task: whose answer it is.
        prediction: of one image.
        fit: how the network saw the photograph.

    Returns:
        (height, width, 3) uint8, of the photograph's size.
    """
    size = (photo.shape[1], photo.shape[2])
    if issubclass(task.annotation, Boxes):
        return task.draw(as_array(photo), boxes_on(prediction, fit, size))
    leaves = [leaf for leaf in pytree.tree_leaves(prediction) if isinstance(leaf, Tensor) and leaf.dim()]
    if not leaves or not all(_is_map(leaf, fit.size) for leaf in leaves):
        drawn = torch.from_numpy(task.draw(as_array(resampled(photo, fit)), prediction)).permute(2, 0, 1)
        return as_array(resampled(drawn, fit.inverse(size)))
    depth = max(leaf.shape[:-2].numel() for leaf in leaves)
    shown = Warp.fit(size, no_larger(size, math.sqrt(min(_PIXELS, _VALUES / depth) / (size[0] * size[1]))))
    maps = pytree.tree_map_only(Tensor, lambda leaf: _moved(leaf, fit, fit.inverse(size).then(shown)), prediction)
    picture = task.draw(as_array(photo if shown.size == size else resampled(photo, shown)), maps)
    return picture if shown.size == size else np.asarray(Image.fromarray(picture).resize((size[1], size[0])))


def boxes_on(prediction: Mapping[str, Tensor], fit: Warp, size: tuple[int, int]) -> dict[str, Tensor]:
    """Detections in the input's pixels as detections in those of an image of `size`, without unused rows."""
    real = prediction["classes"] >= 0
    kept = {name: values[real] for name, values in prediction.items()}
    corners = fit.inverse(size).points(kept["boxes"].view(-1, 2, 2))
    limit = torch.tensor([size[1], size[0]], dtype=corners.dtype)
    return {**kept, "boxes": corners.clamp(min=0).minimum(limit).view(-1, 4)}


def _is_map(leaf: Tensor, size: tuple[int, int]) -> bool:
    """Whether `leaf` has a value per pixel of an input of `size`, but for what a stride leaves over; see `to_size`."""
    sides = zip(leaf.shape[-2:], size, strict=False)
    return leaf.dim() >= 2 and all(_SHORTER * side <= given < side + _STRIDE for given, side in sides)


def _moved(leaf: Tensor, fit: Warp, warp: Warp) -> Tensor:
    """A map of the input (..., height, width) as `warp` shows it, interpolated unless it holds whole numbers."""
    if not leaf.dim():
        return leaf
    values = to_size(leaf, fit.size).reshape(-1, *fit.size)
    numbers = leaf.is_floating_point()
    moved = warp.sample(values.float() if numbers else values, mode="bilinear" if numbers else "nearest", fill=0)
    return moved.to(leaf.dtype).view(*leaf.shape[:-2], *warp.size)
