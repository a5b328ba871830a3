"""Weights that several stages use: the gradient of the first use waits for that of the last before it reaches `.grad`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ubertrain.planning.chain import Keeping, StageCost


def with_tied(stages: Sequence[StageCost], modules: Sequence[nn.Module]) -> list[StageCost]:
    """The stages with the gradients of the weights that several of `modules` use alive during every backward."""
    uses = Counter(parameter for module in modules for parameter in module.parameters() if parameter.requires_grad)
    tied = sum(parameter.nbytes for parameter, count in uses.items() if count > 1)

    def more(way: Keeping) -> Keeping:
        return replace(way, backward_peak=way.backward_peak + tied)

    return [
        replace(
            stage,
            whole=more(stage.whole),
            products=more(stage.products) if stage.products else None,
            pending=stage.pending + tied,
            tail_peak=stage.tail_peak + tied,
        )
        for stage in stages
    ]
