"""Faster R-CNN (Ren et al. 2015, arXiv 1506.01497): both stages on one pyramid."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.ops.assign import Truth
from ubertrain.tasks.proposals import ProposalNetwork, ProposalSettings
from ubertrain.tasks.pyramid import OneLevel, Pyramid
from ubertrain.tasks.region_features import FeatureSettings, Views
from ubertrain.tasks.regions import RegionHead, RegionSettings


def truth_of(target: Mapping[str, Tensor]) -> Truth:
    """A collated annotation of boxes as the operators take it."""
    return Truth(target["boxes"], target["classes"], target["ignore"])


def size_of(levels: Sequence[Tensor], stride: int) -> tuple[int, int]:
    """(height, width) of the images, taken to be as large as the finest level times its stride."""
    return levels[0].shape[-2] * stride, levels[0].shape[-1] * stride


class FasterRCNN(nn.Module):
    """A network proposes boxes, a second one judges them. Given `target`, the losses; else the detections."""

    def __init__(
        self,
        levels: Sequence[Level],
        pyramid: Pyramid | OneLevel,
        proposals: ProposalSettings,
        regions: RegionSettings,
        features: FeatureSettings,
    ):
        super().__init__()
        self.stride = levels[0].stride
        self.pyramid = pyramid
        self.proposals = ProposalNetwork(pyramid, proposals)
        self.regions = RegionHead(levels, pyramid, regions, features)

    def forward(self, levels: list[Tensor], target: Mapping[str, Tensor] | None = None) -> Any:
        """Losses (rows,) for a collated `target`; without one, {"boxes", "scores", "classes"}."""
        size, settings = size_of(levels, self.stride), self.proposals.settings
        seen = Views(levels, self.pyramid(levels))
        said = self.proposals(seen.pyramid)
        boxes, real = self.proposals.select(said, size, settings.test if target is None else settings.train)
        if target is None:
            return self.regions.detect(seen, boxes, real, size)
        truth = truth_of(target)
        # One draw, image by image, so that running the images in several parts samples the same candidates (on CPU).
        counts = [said.logits.shape[1], boxes.shape[1] + truth.boxes.shape[1]]
        chance = torch.rand(len(boxes), sum(counts), device=boxes.device).split(counts, dim=1)
        first = self.proposals.losses(said, truth, chance[0], size)
        return first + self.regions.losses(seen, boxes, real, truth, chance[1])
