"""All that a planner knows of a training step: bytes and work, stage by stage and branch by branch.

Stages are numbered from 0 in the order of the forward pass; the value that comes out of stage i is value i, and value -1 is the
images. Bytes are those of storages made by the step, as `LiveBytes` counts them. Bytes "beyond the input" of a stage leave out
what its input holds, which is alive before it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Keeping:
    """One way to keep a stage's activations.

    Attributes:
        kept: bytes beyond the input that stay after the forward: what the backward needs, and the output.
        forward_peak: most bytes beyond the input during the forward.
        backward_peak: most bytes beyond the input during the backward, gradients of output and input included.
        backward: work of the backward, recomputing included.
    """

    kept: int
    forward_peak: int
    backward_peak: int
    backward: float


@dataclass(frozen=True)
class StageCost:
    """What a stage costs.

    Attributes:
        name: of the stage.
        output: (number of the stage that made it, bytes) of every storage that holds the output. A stage that hands a tensor
            on untouched, or writes into its input, has others than its own.
        gradient: bytes of the gradient of the output.
        whole: keeping all that plain autograd keeps.
        products: keeping the outputs of convolutions and matrix products only; None where the stage does not allow it.
        pass_peak: most bytes beyond the input while it runs and keeps nothing.
        noted: bytes that a span holds for each of its stages besides, copies of buffers, until it is recomputed.
        pending: gradient bytes alive when a span that ends with this stage begins its recompute.
        tail_peak: most bytes beyond the input when the stage is recomputed as the last of a span, and during its backward.
        meeting: bytes that its backward needs more where the gradient of its input meets a sum that is there already, a tap's.
        forward: work of the forward.
        partial: work of the forward up to the last tensor that the backward needs, where a recompute stops.
        clone: bytes that a span which begins with this stage takes more: a copy of its input, which it would write into.
    """

    name: str
    output: tuple[tuple[int, int], ...]
    gradient: int
    whole: Keeping
    products: Keeping | None
    pass_peak: int
    noted: int
    pending: int
    tail_peak: int
    meeting: int
    forward: float
    partial: float
    clone: int = 0


@dataclass(frozen=True)
class Narrowed:
    """What one level of a narrow branch costs; peaks are beyond the tap's value.

    Attributes:
        held: bytes of what the head makes of it, from the trunk's forward until the branch runs.
        gradient: bytes of the gradient of that, from there until the tap's stage is back-propagated.
        hold_peak: most bytes while it is made in the forward.
        first_peak: most bytes while it is made again and back-propagated, `gradient` included; and the sum of the tap's
            gradients, if nobody has read the tap in the backward before.
        later_peak: the same beside a sum that is there already.
    """

    held: int
    gradient: int
    hold_peak: int
    first_peak: int
    later_peak: int


@dataclass(frozen=True)
class NarrowCost:
    """What a branch costs that runs narrow.

    Attributes:
        levels: in the order of the branch's taps.
        peak: most bytes while the levels are joined and back-propagated, beyond what is held of them.
        work: what it does more than otherwise: one more forward of what is held.
    """

    levels: tuple[Narrowed, ...]
    peak: int
    work: float

    @property
    def held(self) -> int:
        """Bytes that are held of all levels."""
        return sum(level.held for level in self.levels)

    @property
    def gradient(self) -> int:
        """Bytes of the gradients of that."""
        return sum(level.gradient for level in self.levels)


@dataclass(frozen=True)
class HeadCost:
    """What a head of several stages costs, run on some rows: a chain that its loss ends, on levels that are there.

    Attributes:
        held: bytes that are there all the while: copies of levels, losses of other rows.
        stages: numbered from 0; value -1 are the levels. The gradients of the levels go into sums that are there already. The
            last stage holds nothing of its output, the prediction, and where it is kept, `kept` is what it needs more than the
            loss alone, from its forward to its backward.
        first: stage 0 where it makes those sums, which are in its peaks.
        loss_peak: most bytes during the loss and its backward, the prediction and its gradient included.
        left: bytes that are left of the loss until the end, the prediction's gradient not included.
        loss_work: forward and backward of the loss.
    """

    held: int
    stages: tuple[StageCost, ...]
    first: StageCost
    loss_peak: int
    left: int
    loss_work: float

    def chain(self, *, fresh: bool) -> Chain:
        """The stages as a trunk, on whose last one the loss runs as a branch; `fresh`: where they make the sums."""
        stages = (self.first, *self.stages[1:]) if fresh else self.stages
        last = len(stages) - 1
        loss = BranchCost("loss", (last,), 1, self.loss_peak, self.loss_peak, None, 0, self.left, False, self.loss_work)
        return Chain(stages, (), (loss,), (loss.task,), "", 0, 0.0, 1)


@dataclass(frozen=True)
class BranchCost:
    """What a branch costs beyond its taps' values and what is already summed of their gradients.

    Attributes:
        task: its name.
        taps: numbers of the stages it reads.
        rows: labelled images.
        first_peak: most bytes, the sums of its taps' gradients included, if it is the first to read them.
        later_peak: most bytes if those sums are there already.
        one_row: `later_peak` with one row at a time; None if its images are coupled, and the branch must run whole.
        per_row: bytes that every further row at a time adds to `one_row`.
        left: bytes that stay after it, its loss.
        may_be_late: whether it can run inside the trunk's backward.
        work: forward and backward.
        narrow: what it costs to run narrow; None if it cannot.
        heads: what the stages of its head cost, on all rows, and on one row at a time if images are apart; none if the head
            runs only as one.
    """

    task: str
    taps: tuple[int, ...]
    rows: int
    first_peak: int
    later_peak: int
    one_row: int | None
    per_row: int
    left: int
    may_be_late: bool
    work: float
    narrow: NarrowCost | None = None
    heads: tuple[HeadCost, ...] = ()

    def peak(self, rows: int | None, *, fresh: int, total: int) -> int:
        """Most bytes when `rows` images run at a time.

        Args:
            rows: None means all.
            fresh: bytes of the sums of tap gradients that this branch is the first to make.
            total: bytes of all sums of its taps' gradients.
        """
        if rows is None or rows >= self.rows:
            return self.first_peak if fresh == total else self.later_peak + fresh
        assert self.one_row is not None, f"branch {self.task} cannot run in parts"
        return self.one_row + (rows - 1) * self.per_row + fresh


@dataclass(frozen=True)
class Chain:
    """A training step as numbers.

    Attributes:
        stages: the trunk's stages in order, as far as the labelled branches need them.
        unused: names of the stages after those, which do not run.
        branches: the labelled branches in order of declaration.
        order: the names of all branches in order of declaration, also of those without labels, which do not run.
        unit: of work: "seconds" or "FLOPs".
        plain_peak: peak bytes of plain autograd on the same step.
        plain_work: its work.
        batch: images.
    """

    stages: tuple[StageCost, ...]
    unused: tuple[str, ...]
    branches: tuple[BranchCost, ...]
    order: tuple[str, ...]
    unit: str
    plain_peak: int
    plain_work: float
    batch: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all stages of the trunk, those that do not run included."""
        return (*(stage.name for stage in self.stages), *self.unused)

    @property
    def starts(self) -> int:
        """Bytes of the scalars, and of their gradients, from which the backward starts at the taps."""
        return 8 * len({tap for branch in self.branches for tap in branch.taps})

    def held(self, start: int, value: int) -> int:
        """Bytes of value `value` that are not part of value `start`, which is alive: made by a stage after `start`."""
        return sum(size for maker, size in self.stages[value].output if maker > start) if value >= 0 else 0

    def only(self, tasks: Iterable[str]) -> Chain:
        """The chain of a batch that labels no other than `tasks`."""
        wanted = set(tasks)
        branches = tuple(branch for branch in self.branches if branch.task in wanted)
        last = max((tap for branch in branches for tap in branch.taps), default=-1)
        unused = (*(stage.name for stage in self.stages[last + 1 :]), *self.unused)
        return replace(self, stages=self.stages[: last + 1], unused=unused, branches=branches)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Chain:
        """What `to_dict` has made, also after a trip through JSON."""
        return cls(
            **data
            | {
                "stages": tuple(_stage(stage) for stage in data["stages"]),
                "unused": tuple(data["unused"]),
                "branches": tuple(_branch(branch) for branch in data["branches"]),
                "order": tuple(data["order"]),
            }
        )


def _branch(data: dict[str, Any]) -> BranchCost:
    narrow = data["narrow"]
    if narrow is not None:
        narrow = NarrowCost(**narrow | {"levels": tuple(Narrowed(**level) for level in narrow["levels"])})
    heads = tuple(map(_head, data["heads"]))
    return BranchCost(**data | {"taps": tuple(data["taps"]), "narrow": narrow, "heads": heads})


def _head(data: dict[str, Any]) -> HeadCost:
    return HeadCost(**data | {"stages": tuple(map(_stage, data["stages"])), "first": _stage(data["first"])})


def _stage(data: dict[str, Any]) -> StageCost:
    products = data["products"]
    return StageCost(
        **data
        | {
            "output": tuple((maker, size) for maker, size in data["output"]),
            "whole": Keeping(**data["whole"]),
            "products": None if products is None else Keeping(**products),
        }
    )
