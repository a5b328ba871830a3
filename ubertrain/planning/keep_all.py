"""The schedule of plain autograd in the trunk; the branches still run one by one."""

from collections.abc import Sequence

from ubertrain.planning.schedule import BranchRun, Schedule


def keep_all(stages: Sequence[str], tasks: Sequence[str]) -> Schedule:
    """Every stage keeps what ordinary autograd keeps; nothing is recomputed.

    Args:
        stages: the trunk's stages in order.
        tasks: the branches in order of declaration.
    """
    return Schedule(tuple(stages), tuple(map(BranchRun, tasks)))
