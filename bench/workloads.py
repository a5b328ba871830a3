"""What the benchmarks run: named multi-task networks with random weights, images and labels, in float32 and training mode."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vit import TokenHead, blocks_of_vit_b16

import ubertrain as ut
from ubertrain.ops.grid import OnGrid
from ubertrain.registry import TRUNKS
from ubertrain.tasks.deeplab import ASPP
from ubertrain.tasks.fusion import FusionHead
from ubertrain.trunks.resnet import ResNet50
from ubertrain.trunks.trunk import Tap

Case = tuple[ut.Graph, Tensor, dict[str, Any]]
"""A graph, (batch, 3, side, side) images, and task -> labels of all rows."""

FIVE = {"segmentation": 21, "parts": 7, "normals": 3, "saliency": 1, "boundary": 1}
"""Dense tasks and the channels of their predictions."""
SEVEN = FIVE | {"semantic_boundary": 20, "depth": 1}


@dataclass(frozen=True)
class Workload:
    """A named case.

    Attributes:
        build: `build(batch, side)` makes it.
        batch: images, where nothing else is asked.
        side: pixels, likewise, such that two processor cores take a step in about a second.
    """

    build: Callable[[int, int], Case]
    batch: int
    side: int


class OnLevel(nn.Sequential):
    """The first stage of a head that reads one level: layers on that level."""

    def forward(self, levels: list[Tensor]) -> Tensor:
        (level,) = levels
        return super().forward(level)


class DenseHead(nn.Sequential):
    """Two 3x3 convolutions of 256 channels with batch norm, a 3x3 convolution, and bilinear enlargement to the input.

    Four stages: levels of one in, (rows, channels, height, width) at the input's resolution out.
    """

    def __init__(self, source: int, channels: int, width: int = 256, factor: int = 8) -> None:
        last = nn.Conv2d(width, channels, 3, padding=1)  # made first, and so with the random weights that it has always had
        hidden = OnLevel(*_unit(source, width)), nn.Sequential(*_unit(width, width))
        super().__init__(*hidden, last, nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False))


def classes_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of (rows, channels, height, width) logits, one value per image."""
    return F.cross_entropy(logits, target, reduction="none").mean((1, 2))


def map_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of two maps, one value per image."""
    return (prediction - target).abs().mean((1, 2, 3))


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of a map, one value per image."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2, 3))


def criterion(channels: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a dense task with so many channels."""
    return {1: mask_loss, 3: map_loss}.get(channels, classes_loss)


def labels(channels: int, batch: int, side: int) -> Tensor:
    """Random labels for `criterion(channels)`."""
    if channels in (1, 3):
        return torch.rand(batch, channels, side, side)
    return torch.randint(channels, (batch, side, side))


def resnet50_heads(batch: int, side: int) -> Case:
    """ResNet-50 in 19 stages, its last features at 1/8 of the input, and five heads that all read them."""
    torch.manual_seed(0)
    neck = nn.Sequential(nn.Conv2d(2048, 512, 1), nn.UpsamplingBilinear2d(scale_factor=4))
    return _one_level(_residual_stages() | {"neck": neck}, "neck", 512, batch, side)


def vgg16bn_heads(batch: int, side: int) -> Case:
    """VGG-16 with batch norm, half as wide, without its last two pools, in 16 stages, and five heads that read the last."""
    torch.manual_seed(0)
    trunk: dict[str, nn.Module] = {}
    source = 3
    for group, (depth, width) in enumerate(zip((2, 2, 3, 3, 3), (32, 64, 128, 256, 256), strict=True), start=1):
        for position in range(1, depth + 1):
            trunk[f"conv{group}_{position}"] = nn.Sequential(*_unit(source, width))
            source = width
        if group <= 3:
            trunk[f"pool{group}"] = nn.MaxPool2d(2)
    return _one_level(trunk, "conv5_3", source, batch, side)


def vgg16_ubernet(batch: int, side: int) -> Case:
    """UberNet (Kokkinos 2017): VGG-16 with seven dense tasks, each of which scores six levels and fuses the scores.

    Without dropout, so that all methods compute the same.
    """
    torch.manual_seed(0)
    trunk = TRUNKS.make("vgg16", "bench", dropout=0.0)
    taps = [trunk.taps[name] for name in ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "fc7")]
    return _fused(trunk.stages(), taps, SEVEN, batch, side)


def resnet50_ubernet(batch: int, side: int) -> Case:
    """ResNet-50 with five dense tasks, each of which scores the outputs of its four groups of blocks and fuses the scores."""
    torch.manual_seed(0)
    trunk = TRUNKS.make("resnet50", "bench")
    return _fused(trunk.stages(), [trunk.taps[f"res{i}"] for i in range(2, 6)], FIVE, batch, side)


def resnet50_aspp(batch: int, side: int) -> Case:
    """ResNet-50 dilated to stride 8 with five DeepLab v3 heads, the usual baseline of multi-task dense prediction.

    Its heads do most of the work. The survey of Vandenhende et al. (2021, arXiv 2004.13379) compares with such networks.
    """
    torch.manual_seed(0)
    trunk = TRUNKS.make("resnet50", "bench", output_stride=8)
    tap = trunk.taps["res5"]
    level, recipe = ut.Level(tap.channels, tap.stride), ASPP(rates=(12, 24, 36))
    branches = {task: ut.Branch(recipe.make([level], n), [tap.stage], _at_pixels(criterion(n))) for task, n in FIVE.items()}
    return _case(ut.Graph(trunk.stages(), branches), FIVE, batch, side)


def vit_b16(batch: int, side: int) -> Case:
    """ViT-B/16 with five dense tasks, each of which scores the tokens after blocks 3, 6, 9 and 12 and adds the scores.

    The tokens after block 12 are normalised, as usual.
    """
    torch.manual_seed(0)
    stages, width = blocks_of_vit_b16(side)
    taps = ["block3", "block6", "block9", "norm"]
    branches = {task: ut.Branch(TokenHead(width, len(taps), n), taps, criterion(n)) for task, n in FIVE.items()}
    return _case(ut.Graph(stages, branches), FIVE, batch, side)


def resnet50_trunk(batch: int, side: int) -> Case:
    """ResNet-50 in 18 stages by residual blocks, without heads: the loss is the mean of the last output."""
    torch.manual_seed(0)
    return _mean_of_last(_residual_stages(), batch, side)


def vit_b16_trunk(batch: int, side: int) -> Case:
    """ViT-B/16 by blocks, without heads: the loss is the mean of the last output."""
    torch.manual_seed(0)
    return _mean_of_last(blocks_of_vit_b16(side)[0], batch, side)


WORKLOADS: Mapping[str, Workload] = {
    "resnet50_heads": Workload(resnet50_heads, 4, 192),
    "vgg16bn_heads": Workload(vgg16bn_heads, 4, 192),
    "vgg16_ubernet": Workload(vgg16_ubernet, 2, 128),
    "resnet50_ubernet": Workload(resnet50_ubernet, 4, 160),
    "resnet50_aspp": Workload(resnet50_aspp, 4, 96),
    "vit_b16": Workload(vit_b16, 4, 160),
    "resnet50_trunk": Workload(resnet50_trunk, 4, 192),
    "vit_b16_trunk": Workload(vit_b16_trunk, 4, 160),
}


def _unit(source: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(source, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)


def _residual_stages() -> dict[str, nn.Module]:
    """The stem, its pool, and 16 blocks."""
    trunk = ResNet50()
    stem = nn.Sequential(trunk.conv1, trunk.bn1, nn.ReLU(inplace=True))
    blocks = {name: stage for name, stage in trunk.stages().items() if name != "stem"}
    return {"stem": stem, "pool": nn.MaxPool2d(3, stride=2, padding=1)} | blocks


def _one_level(trunk: dict[str, nn.Module], tap: str, channels: int, batch: int, side: int) -> Case:
    branches = {task: ut.Branch(DenseHead(channels, n), [tap], criterion(n)) for task, n in FIVE.items()}
    return _case(ut.Graph(trunk, branches), FIVE, batch, side)


def _fused(stages: dict[str, nn.Module], taps: list[Tap], tasks: Mapping[str, int], batch: int, side: int) -> Case:
    levels = [ut.Level(tap.channels, tap.stride) for tap in taps]
    branches = {
        task: ut.Branch(FusionHead(levels, n), [tap.stage for tap in taps], _cropped(criterion(n))) for task, n in tasks.items()
    }
    return _case(ut.Graph(stages, branches), tasks, batch, side)


def _cropped(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A head may answer a little more than the image."""
    return lambda scores, target: loss(scores[..., : target.shape[-2], : target.shape[-1]], target)


def _at_pixels(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[OnGrid, Tensor], Tensor]:
    """A head that scores a grid is judged at every pixel."""
    return lambda scores, target: loss(scores.pixels(), target)


def _case(graph: ut.Graph, tasks: Mapping[str, int], batch: int, side: int) -> Case:
    return graph, torch.rand(batch, 3, side, side), {task: labels(n, batch, side) for task, n in tasks.items()}


class _Mean(nn.Module):
    """Mean of the only level, one value per image."""

    def forward(self, levels: list[Tensor]) -> Tensor:
        return levels[0].flatten(1).mean(1)


def _mean_of_last(trunk: dict[str, nn.Module], batch: int, side: int) -> Case:
    branch = ut.Branch(_Mean(), [list(trunk)[-1]], lambda means, target: means)
    return ut.Graph(trunk, {"mean": branch}), torch.rand(batch, 3, side, side), {"mean": torch.zeros(batch)}
