"""The batch that stands for all when memory is planned: every image carries every label."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ubertrain.annotation.warp import Warp
from ubertrain.data.batch import Batch
from ubertrain.data.loading import warped
from ubertrain.data.reader import Reader
from ubertrain.data.sample import Sample
from ubertrain.engine.labels import Labels
from ubertrain.errors import DataError
from ubertrain.task import Task
from ubertrain.training.config import Config

_EXAMPLES = 32
"""How many labels of a kind are looked at for the fullest."""


def full_batch(config: Config, tasks: Mapping[str, Task], readers: Mapping[str, Reader]) -> Batch:
    """A batch whose every image carries every label, for measuring: what a step needs when everything is labelled.

    Each task's label is the fullest among the first samples that carry it, repeated; a later one with more boxes needs more.

    Raises:
        DataError: no sample of any training set carries a task's label.
    """
    search = _Search({task.label for task in tasks.values()}, config.data.size)
    for reader in readers.values():
        search.look_into(reader)
    for task in tasks.values():
        if task.label not in search.fullest:
            raise DataError(f"no sample of the training sets {', '.join(readers)} carries the label {task.label!r}")
    size, count = config.data.size, config.data.batch
    image = next(iter(search.fullest.values())).image.float() / 255
    targets = {
        name: Labels(task.annotation.collate([search.fullest[task.label].annotations[task.label]] * count))
        for name, task in tasks.items()
    }
    return Batch(image.expand(count, 3, *size).contiguous(), targets, tuple(f"example/{row}" for row in range(count)))


class _Search:
    """Reads samples, each once for all the labels that are still looked for.

    Attributes:
        fullest: label -> the sample with the fullest one so far, fitted into the input.
    """

    def __init__(self, labels: set[str], size: tuple[int, int]) -> None:
        self.fullest: dict[str, Sample] = {}
        self._left = dict.fromkeys(labels, _EXAMPLES)
        self._size = size

    def look_into(self, reader: Reader) -> None:
        """Look at samples from the first on, until there are enough of every label that the set has."""
        index, wanted, narrow = 0, None, reader
        while index < len(reader) and (pending := {label for label in reader.kinds if self._left.get(label)}):
            if pending != wanted:
                wanted, narrow = pending, reader.only(sorted(pending))
            self._look_at(narrow, index, reader, pending)
            index += 1

    def _look_at(self, narrow: Reader, index: int, reader: Reader, pending: set[str]) -> None:
        try:
            sample = narrow.read(index)
        except DataError:
            return  # training will meet it, and raise or skip it there
        found = pending & sample.annotations.keys()
        if not found:
            return
        sample = warped(sample, Warp.fit((sample.image.shape[1], sample.image.shape[2]), self._size), reader.kinds)
        for label in sorted(found):
            self._left[label] -= 1
            best = self.fullest.get(label)
            if best is None or _fullness(sample.annotations[label]) > _fullness(best.annotations[label]):
                self.fullest[label] = sample


def _fullness(label: Any) -> int:
    """How many numbers a label holds: more boxes, more annotators."""
    return sum(leaf.numel() for leaf in pytree.tree_leaves(label) if isinstance(leaf, torch.Tensor))
