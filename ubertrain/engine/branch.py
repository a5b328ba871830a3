"""One task's part of a graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ubertrain.engine.inplace import versions
from ubertrain.errors import TaskError

Loss = Callable[[Any, Any], Tensor]
"""`loss(prediction, target) -> (rows,)`, one value per image."""
HeadLoss = Callable[[nn.Module, list[Any], Any], Tensor]
"""`losses(head, levels, target) -> (rows,)`, for losses that need more of their head than its prediction."""


@dataclass(frozen=True)
class Branch:
    """Taps -> head -> loss of one task.

    Attributes:
        head: `head(levels: list[Tensor]) -> prediction`, any pytree with one row per image. It may also say how it gets by with
            little of each level, see `engine.narrow`.
        taps: names of the trunk stages the head reads, in the order it reads them.
        loss: `loss(prediction, target) -> (rows,)`; one value per image is what makes partial labels and row splitting exact
            (UberNet, equation 3). A module with parameters is trained like a head.
        weight: factor of the task in the objective.
        losses: instead of `loss`: `losses(head, levels, target) -> (rows,)`; a module is trained too.
    """

    head: nn.Module
    taps: Sequence[str]
    loss: Loss | None = None
    weight: float = 1.0
    losses: HeadLoss | None = None

    def __post_init__(self) -> None:
        if not self.taps or isinstance(self.taps, str):
            raise TaskError(f"a branch needs a list of taps, e.g. taps=['res3', 'res5']; got {self.taps!r}")
        if (self.loss is None) == (self.losses is None):
            raise TaskError("a branch needs either loss(prediction, target) or losses(head, levels, target), and not both")

    @property
    def criterion(self) -> Loss | HeadLoss:
        """`loss` or `losses`, whichever is there."""
        criterion = self.losses if self.loss is None else self.loss
        assert criterion is not None
        return criterion

    def per_row(self, head: Callable[[list[Any]], Any], levels: list[Any], target: Any, *, rows: int, task: str) -> Tensor:
        """The loss of every row, shape (rows,), with `head` as the graph holds it now.

        Args:
            head: the head, or what gives its prediction from `levels`; for `losses` the head itself.
            levels: what it is given.
            target: the labels.
            rows: how many are labelled.
            task: for messages.

        Raises:
            TaskError: the loss is not one floating-point value per image, or a level was written to in place.
        """
        before = versions(levels)
        if self.losses is not None:
            assert isinstance(head, nn.Module)
            values = self.losses(head, levels, target)
        else:
            assert self.loss is not None
            values = self.loss(head(levels), target)
        if not isinstance(values, Tensor) or values.shape != (rows,) or not values.is_floating_point():
            given = f"{tuple(values.shape)} {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
            raise TaskError(
                f"task {task!r}: the loss must be one floating-point value per image, shape ({rows},), got {given}; "
                "reduce over everything but the first dimension, e.g. loss.flatten(1).mean(1)"
            )
        if versions(levels) != before:
            raise TaskError(
                f"task {task!r}: its head or loss writes in place into a level, which is the trunk's and other tasks' too; use "
                "the out-of-place form (inplace=False), or clone the level first"
            )
        return values
