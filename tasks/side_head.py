"""A head that answers at every level, and once more for all: HED's side outputs and their fusion."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ubertrain.engine.level import Level
from ubertrain.ops.pixels import enlarge, full_precision, to_size
from ubertrain.tasks.fusion import same


class SideHead(nn.Module):
    """Levels -> one map of scores for all levels together and one for each, at the resolution of the input.

    Deep supervision (HED, Xie and Tu 2015, section 3): each level is scored by a 1x1 convolution and its scores are enlarged
    bilinearly; the fused map is their weighted sum with learned weights, at first the mean. All maps have their own loss, so
    that every level learns to find boundaries of its scale.

    It may run narrow (`engine.narrow`): the scores of a level are less than the level.

    Args:
        levels: what the head reads, in the order in which it will be given them.
        width: features per pixel, normalised in groups, between a level and its score; 0 for none, as in HED.
        answer: turns the fused scores (rows, 1, height, width) into predictions in eval mode.
    """

    def __init__(self, levels: Sequence[Level], *, width: int = 0, answer: Callable[[Tensor], Tensor] = same) -> None:
        super().__init__()
        self.strides, self.answer = [level.stride for level in levels], answer
        self.score = nn.ModuleList(_scorer(level.channels, width) for level in levels)
        self.fuse = nn.Conv2d(len(levels), 1, 1)
        nn.init.constant_(self.fuse.weight, 1 / len(levels))
        nn.init.zeros_(self.fuse.bias)  # type: ignore[arg-type]

    def forward(self, levels: list[Tensor]) -> Tensor:
        """(rows, 1 + levels, height, width) scores in training mode, the fused first; `answer(fused)` in eval mode."""
        return self.join([self.narrow(place, level) for place, level in enumerate(levels)])

    def narrow(self, place: int, level: Tensor) -> Tensor:
        """The scores of one level, (rows, 1, height, width) on its own grid."""
        scores: Tensor = self.score[place](level)
        return scores

    def join(self, narrowed: list[Tensor]) -> Tensor:
        """What `forward` gives, from the narrowed levels."""
        maps = [enlarge(full_precision(scores), stride) for scores, stride in zip(narrowed, self.strides, strict=True)]
        size = maps[self.strides.index(min(self.strides))].shape[-2:]
        sides = torch.cat([to_size(scores, size) for scores in maps], dim=1)
        fused = full_precision(self.fuse(sides))
        return torch.cat([fused, sides], dim=1) if self.training else self.answer(fused)


def _scorer(channels: int, width: int) -> nn.Module:
    """One score per pixel, at first nearly 0."""
    last = nn.Conv2d(width or channels, 1, 1)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    if not width:
        return last
    groups = max(count for count in (8, 4, 2, 1) if width % count == 0)
    first = nn.Conv2d(channels, width, 1, bias=False)
    return nn.Sequential(first, nn.GroupNorm(groups, width), nn.ReLU(), last)
