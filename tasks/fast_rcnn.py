"""Fast R-CNN (Girshick 2015, arXiv 1504.08083): boxes that somebody else proposed are judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.ops.anchors import anchors
from ubertrain.ops.boxes import area, clip
from ubertrain.tasks.faster_rcnn import size_of, truth_of
from ubertrain.tasks.pyramid import OneLevel, Pyramid
from ubertrain.tasks.region_features import FeatureSettings, Views
from ubertrain.tasks.regions import RegionHead, RegionSettings


@dataclass(frozen=True)
class Windows:
    """The boxes to judge where none are given: at every cell of the coarsest tap, of some sizes and shapes.

    Attributes:
        sizes: square roots of the areas, in pixels.
        ratios: height / width.
        train, test: how many of the given boxes, the first ones, are looked at with and without labels.
    """

    sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    train: int
    test: int


class FastRCNN(nn.Module):
    """The second stage alone. Given `target`, which holds proposals, the losses; else the detections.

    New images come without proposals. There, a regular grid of windows is judged in their place (as the paper's section 5.6 did
    to see what proposals are good for), so that the network can be used; what it finds then is worse.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        pyramid: Pyramid | OneLevel,
        windows: Windows,
        regions: RegionSettings,
        features: FeatureSettings,
    ):
        super().__init__()
        self.stride, self.coarsest, self.windows = levels[0].stride, levels[-1].stride, windows
        self.pyramid = pyramid
        self.regions = RegionHead(levels, pyramid, regions, features)

    def forward(self, levels: list[Tensor], given: Tensor | None = None, target: Mapping[str, Tensor] | None = None) -> Any:
        """Losses (rows,) for a collated `target`; without one, {"boxes", "scores", "classes"}.

        Args:
            levels: what the trunk gives.
            given: proposals (rows, P, 4), best first; those without an area are padding.
            target: a collated annotation with "proposals".
        """
        size = size_of(levels, self.stride)
        seen = Views(levels, self.pyramid(levels))
        if target is None:
            boxes = self._grid(levels, size) if given is None else clip(given[:, : self.windows.test], size)
            return self.regions.detect(seen, boxes, area(boxes) > 0, size)
        truth, boxes = truth_of(target), clip(target["proposals"][:, : self.windows.train], size)
        chance = torch.rand(len(boxes), boxes.shape[1] + truth.boxes.shape[1], device=boxes.device)
        return self.regions.losses(seen, boxes, area(boxes) > 0, truth, chance)

    def _grid(self, levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Windows (rows, W, 4), within the image."""
        where = clip(anchors(levels[-1], self.coarsest, self.windows.sizes, self.windows.ratios), size)
        return where.expand(len(levels[-1]), -1, -1)
