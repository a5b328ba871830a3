"""A trunk in smaller stages than it names itself, for schedules that choose more closely what to recompute."""

from collections.abc import Mapping

from torch import Tensor, nn

from ubertrain.engine.module_tree import nested
from ubertrain.splitting.split import split
from ubertrain.trunks.trunk import Stage, Trunk


def finer_stages(trunk: Trunk) -> dict[str, nn.Module]:
    """The stages of a trunk, cut also behind the convolutions and matrix products inside of blocks; taps keep their names.

    They hold the trunk's own layers and do the same, bit for bit. Frozen stages stay whole: nothing of them is kept.

    Raises:
        ScheduleError: a stage of the trunk cannot be traced.
    """
    stages = trunk.stages()
    tapped = {tap.stage for tap in trunk.taps.values()}
    frozen = [name for name, stage in stages.items() if isinstance(stage, Stage) and stage.frozen]
    return split(_Chained(stages), [name for name in stages if name in tapped], finer=True, leaves=frozen)


class _Chained(nn.Module):
    """The stages one after another, under their own names."""

    def __init__(self, stages: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._names = tuple(stages)
        for name, child in nested(stages).items():
            self.add_module(name, child)

    def forward(self, value: Tensor) -> Tensor:
        for name in self._names:
            value = self.get_submodule(name)(value)
        return value
