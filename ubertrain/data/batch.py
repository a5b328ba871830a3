"""What one training or evaluation step is given."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ubertrain.engine.labels import Labels


@dataclass(frozen=True)
class Batch:
    """Images of one size and, for each task that any of them labels, the labels and the rows they belong to.

    Attributes:
        images: (batch, 3, height, width) float32 in [0, 1], RGB; padding is 0. Normalising is the trunk's business.
        targets: task name -> labels; a task that no image labels is absent.
        ids: "set/sample" of every image, for messages.
        skipped: what was wrong with each sample that was left out (`data.on_error: skip`).
    """

    images: Tensor
    targets: Mapping[str, Labels]
    ids: tuple[str, ...]
    skipped: tuple[str, ...] = ()
