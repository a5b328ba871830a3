"""One span per stage: what wrapping every block in `torch.utils.checkpoint` does."""

from collections.abc import Sequence

from ubertrain.planning.every_k import every_k
from ubertrain.planning.schedule import Schedule


def per_stage(stages: Sequence[str], tasks: Sequence[str]) -> Schedule:
    """Every stage's input is kept and its inside recomputed; the branches run one by one.

    Args:
        stages: the trunk's stages in order.
        tasks: the branches in order of declaration.
    """
    return every_k(stages, tasks, 1)
