"""What every metric must say about itself."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from ubertrain.metrics.constants import Constant


class Metric(ABC):
    """A score over a data set, gathered batch by batch as sums.

    Sums make merging exact: the score of two halves merged is the score of the whole, in any order and over any number of
    processes. Pixels, images or boxes without a label never enter a sum; a score without any label is `nan`.
    """

    primary: ClassVar[str]
    """The entry of `compute()` that stands for the task in tables and in model selection."""
    higher_is_better: ClassVar[bool]
    """The direction of `primary`."""

    @abstractmethod
    def update(self, prediction: Any, target: Any) -> None:
        """Add the rows of one batch: what the head predicted in eval mode, and the collated annotation of the same rows."""

    @abstractmethod
    def merge(self, other: "Metric") -> None:
        """Add what another metric of the same kind has gathered."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The scores by name, `primary` among them."""

    def constant(self) -> Constant | None:
        """The best constant answer in terms of `primary`, to be fitted to the training labels; None if nobody knows one."""
        return None
