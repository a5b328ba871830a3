"""The class a task plugin derives from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from ubertrain.annotation.annotation import Annotation
from ubertrain.engine.level import Level
from ubertrain.metrics.metric import Metric


class Task(ABC):
    """One task: which label it needs, its head, its loss, its metric and its picture.

    The keywords of `__init__` are the keys the task accepts in YAML; anything else is a `ConfigError`. A task never sees the
    trunk, the optimizer or the other tasks.
    """

    name: ClassVar[str] = ""
    """Set by `register_task`."""
    annotation: type[Annotation]
    """What a sample must carry for this task to run on it. A task that needs more may set a kind derived from its class's."""
    key: str | None = None
    """The name under which samples carry it; None means the kind's own, `annotation.key`."""
    taps: Sequence[str] = ("res3", "res4", "res5")
    """The trunk levels the head reads, finest first."""

    @property
    def label(self) -> str:
        """The name under which samples carry this task's label."""
        return self.key or self.annotation.key

    @abstractmethod
    def make_head(self, levels: list[Level]) -> nn.Module:
        """A module `head(levels: list[Tensor]) -> prediction` for levels described as `levels`, in the order of `taps`.

        The prediction is a pytree whose tensors have one row per image.
        """

    @abstractmethod
    def loss(self, prediction: Any, target: Any) -> Tensor:
        """One value per image, shape (rows,): `prediction` of the head in training mode against the collated annotation.

        An image whose label has no valid pixel gives 0, connected to the prediction.
        """

    def losses(self, head: nn.Module, levels: list[Tensor], target: Any) -> Tensor:
        """As `loss`, for tasks whose loss needs more of its head than the prediction (two-stage detection)."""
        return self.loss(head(levels), target)

    def given(self, target: Any) -> Any:
        """What the head predicts better with than from its levels alone, taken from a collated annotation; None for nothing.

        A pytree with one row per image, such as proposals for Fast R-CNN. Scoring then calls `head(levels, given)`. Images of
        which nothing is known are still predicted as `head(levels)`.
        """
        return None

    @abstractmethod
    def metric(self) -> Metric:
        """A new metric; it is fed what the head returns in eval mode."""

    @abstractmethod
    def draw(self, image: np.ndarray, prediction: Any) -> np.ndarray:
        """One image's prediction as a picture.

        Args:
            image: (height, width, 3) uint8: what the network saw, or the photograph that this was made of.
            prediction: one row of what the head returns in eval mode: its tensors without their first dimension. Boxes and maps
                have been brought to the pixels of `image`; an answer with anything else is drawn on what the network saw.

        Returns:
            (height, width, 3) uint8, of the image's size.
        """
