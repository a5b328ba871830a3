"""Object detection in two stages: Faster R-CNN and Fast R-CNN, on a feature pyramid or on one level.

Every shape is fixed by the configuration and the size of the images: candidates are sampled to fixed counts, with weight 0
where an image has fewer. Detection can therefore be measured on fake tensors and planned like any other branch.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from ubertrain.annotation.boxes import Boxes as BoxesKind
from ubertrain.annotation.proposed_boxes import ProposedBoxes
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError, TaskError
from ubertrain.metrics.box_ap import BoxAP
from ubertrain.metrics.found_boxes import BoxMetric
from ubertrain.metrics.voc_ap import Voc07AP, VocAP
from ubertrain.registry import register_task
from ubertrain.task import Task
from ubertrain.tasks.fast_rcnn import FastRCNN, Windows
from ubertrain.tasks.faster_rcnn import FasterRCNN
from ubertrain.tasks.proposals import Kept, ProposalSettings
from ubertrain.tasks.pyramid import OneLevel, Pyramid
from ubertrain.tasks.region_features import FeatureSettings, From, Pool
from ubertrain.tasks.regions import RegionSettings

_SHOWN = 0.3
"""Pictures show detections from this probability on."""
_METRICS: dict[str, type[BoxMetric]] = {"coco": BoxAP, "voc": VocAP, "voc07": Voc07AP}


@register_task("boxes")
class Boxes(Task):
    """Boxes and classes of objects.

    The defaults learn from few and small images. Faster R-CNN as published, for images of some 600 by 1000 pixels: one tap of
    stride 16, channels 0, width 4096, scales [8, 16, 32], candidates 12000, proposals 2000, test_candidates 6000,
    test_proposals 300, min_side 16, inside true, anchor_samples 256, region_samples 64 (128 over two images), pool max,
    context false, agnostic false, nms 0.3, and protocol voc07. Fast R-CNN: proposer given and background_from 0.1 besides. FPN:
    taps [res2, res3, res4, res5], depth 5, channels 256, width 1024, scales [8], regions_from size. SPP-net's pyramid:
    pool max, bins [6, 3, 2, 1].

    Args:
        classes: how many classes, or their names in the order of their ids.
        taps: trunk levels, finest first; with a pyramid the coarser ones are added into the finer ones.
        channels: width of the pyramid, a multiple of 8; 0 for none: both stages read the one tap as it is.
        width: width of the two fully connected layers of the second stage.
        depth: how many of the pyramid's levels carry anchors, finest first; at most one more than there are taps.
        scales: square roots of the anchors' areas, in multiples of their level's stride.
        ratios: height / width of the anchors.
        proposer: "network", the first stage of Faster R-CNN; or "given": the data sets have files of boxes (see the data set
            `with_proposals`), as Fast R-CNN takes them.
        candidates, proposals: boxes of an image before and after suppression between the stages; of given ones, the first.
        test_candidates, test_proposals: the same while detecting; left out: as many.
        proposal_nms: IoU from which proposals suppress each other.
        min_side: proposals thinner than this, in input pixels, are dropped.
        inside: whether the first stage learns from anchors within the image alone.
        anchor_samples, region_samples: per image, what the losses of the two stages look at (Fast R-CNN's R / N).
        positives: at most this part of the regions are objects; of the anchors, half.
        background_from: regions that overlap an object by less are no background (Fast R-CNN's 0.1).
        pool: "align", RoI align; or "max", RoI pooling.
        bins: a box is read as bins x bins; a list makes a spatial pyramid.
        regions_from: "finest", all boxes are read from the finest level; or "size": large ones from coarser levels (FPN).
        canonical: the side in input pixels of boxes that are read at stride 16, with regions_from size.
        context: whether the second stage also sees the mean of every tap over a box.
        agnostic: one box offset for all classes (learns from fewer images) instead of one for each.
        nms: IoU from which detections of one class suppress each other.
        min_score: detections at or below this probability are dropped.
        detections: per image.
        protocol: which average precision is the score: "coco", "voc" (all points, from 2010 on) or "voc07" (11 points).
    """

    annotation = BoxesKind

    def __init__(self, *, classes: int | Sequence[str], taps: Sequence[str] = ("res3", "res4", "res5"),
                 channels: int = 64, width: int = 256, depth: int = 1,
                 scales: Sequence[float] = (3, 6, 12, 24), ratios: Sequence[float] = (0.5, 1, 2),
                 proposer: Literal["network", "given"] = "network",
                 candidates: int = 256, proposals: int = 64,
                 test_candidates: int | None = None, test_proposals: int | None = None,
                 proposal_nms: float = 0.7, min_side: float = 0.0, inside: bool = False,
                 anchor_samples: int = 128, region_samples: int = 64,
                 positives: float = 0.25, background_from: float = 0.0,
                 pool: Pool = "align", bins: int | Sequence[int] = 7,
                 regions_from: From = "finest", canonical: float = 224.0, context: bool = True,
                 agnostic: bool = True, nms: float = 0.5, min_score: float = 0.05, detections: int = 100,
                 protocol: Literal["coco", "voc", "voc07"] = "coco"):  # fmt: skip
        self.names = tuple(classes) if not isinstance(classes, int) else tuple(str(index) for index in range(classes))
        self.taps, self.channels, self.depth, self.protocol, self.proposer = tuple(taps), channels, depth, protocol, proposer
        self.annotation = ProposedBoxes if proposer == "given" else BoxesKind
        tested = Kept(
            candidates if test_candidates is None else test_candidates, proposals if test_proposals is None else test_proposals
        )
        kept = Kept(candidates, proposals), tested
        self.first = ProposalSettings(
            tuple(scales), tuple(ratios), *kept, proposal_nms, min_side, inside, anchor_samples,
        )  # fmt: skip
        self.second = RegionSettings(
            len(self.names), width, region_samples, positives, background_from, agnostic, nms, min_score, detections,
        )  # fmt: skip
        grids = (bins,) if isinstance(bins, int) else tuple(bins)
        self.features = FeatureSettings(pool, grids, regions_from, canonical, context)
        self._check()

    def make_head(self, levels: list[Level]) -> nn.Module:
        """`head(levels)` detects; with `target=`, a collated annotation, it gives the losses.

        Raises:
            TaskError: the levels are not ordered from the finest to the coarsest.
        """
        strides = [level.stride for level in levels]
        if strides != sorted(strides):
            raise TaskError(f"task 'boxes' needs its taps finest first; {list(self.taps)} have the strides {strides}")
        pyramid = Pyramid(levels, self.channels, self.depth) if self.channels else OneLevel(levels[0])
        if self.proposer == "network":
            return FasterRCNN(levels, pyramid, self.first, self.second, self.features)
        sizes = tuple(scale * strides[0] for scale in self.first.scales)
        windows = Windows(sizes, self.first.ratios, self.first.train.proposals, self.first.test.proposals)
        return FastRCNN(levels, pyramid, windows, self.second, self.features)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        """Not defined: the second stage needs the head to look at the regions that it is trained on."""
        raise TaskError("task 'boxes' learns in two stages: call losses(head, levels, target) instead of loss")

    def losses(self, head: nn.Module, levels: list[Tensor], target: Any) -> Tensor:
        """(rows,): the losses of both stages, each a mean over the image's fixed number of samples."""
        losses: Tensor = head(levels, target=target)
        return losses

    def given(self, target: Any) -> Tensor | None:
        """The proposals (rows, P, 4) of a collated annotation, if the head takes any."""
        return target["proposals"] if self.proposer == "given" else None

    def metric(self) -> BoxMetric:
        """Average precision by the task's protocol."""
        return _METRICS[self.protocol](len(self.names))

    def draw(self, image: np.ndarray, prediction: Any) -> np.ndarray:
        """The more certain boxes with class names and scores."""
        sure = prediction["scores"] >= _SHOWN
        classes = prediction["classes"].masked_fill(~sure | ~prediction["boxes"].isfinite().all(dim=-1), -1)
        return BoxesKind.draw(image, {**prediction, "classes": classes}, names=self.names)

    def _check(self) -> None:
        """Raise `ConfigError` for numbers that no detector can be made of."""
        if not self.names or self.channels % 8 or self.channels < 0 or not 1 <= self.depth <= len(self.taps) + 1:
            raise ConfigError(
                "boxes needs at least one class, channels in multiples of 8 (or 0) and a depth from 1 to one more than its "
                f"{len(self.taps)} taps; given are {len(self.names)} classes, channels {self.channels}, depth {self.depth}"
            )
        if not self.channels and (len(self.taps), self.depth) != (1, 1):
            raise ConfigError(
                f"boxes without a pyramid (channels 0) reads one tap; given are {len(self.taps)}, depth {self.depth}"
            )
        first, second, features = self.first, self.second, self.features
        counts = {
            "width": second.width, "candidates": first.train.candidates, "proposals": first.train.proposals,
            "test_candidates": first.test.candidates, "test_proposals": first.test.proposals,
            "anchor_samples": first.samples, "region_samples": second.samples, "detections": second.detections,
            "bins": min(features.bins, default=0), "scales": min(first.scales, default=0),
            "ratios": min(first.ratios, default=0), "canonical": features.canonical,
        }  # fmt: skip
        parts = {"proposal_nms": first.nms, "nms": second.nms, "positives": second.positives,
                 "background_from": second.background_from, "min_score": second.min_score}  # fmt: skip
        for key, value in counts.items():
            if not value > 0:
                raise ConfigError(f"boxes, {key}: must be above 0; given is {value}")
        for key, value in parts.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"boxes, {key}: must be between 0 and 1; given is {value}")
        if not first.min_side >= 0:
            raise ConfigError(f"boxes, min_side: must be 0 or above; given is {first.min_side}")
