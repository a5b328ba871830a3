"""Samples of one size as one batch."""

from collections.abc import Mapping, Sequence

import torch

from ubertrain.data.batch import Batch
from ubertrain.data.sample import Sample
from ubertrain.engine.labels import Labels
from ubertrain.task import Task


def collate(
    samples: Sequence[Sample], tasks: Mapping[str, Task], *, size: tuple[int, int], skipped: Sequence[str] = ()
) -> Batch:
    """The samples in their order; each task gets the rows that carry its label.

    A task whose label no sample carries is absent from the targets. Tasks that read the same label share its tensors.

    Args:
        samples: with images of `size` and annotations that fit them; none at all give a batch of no images.
        tasks: name -> task.
        size: (height, width) of the images.
        skipped: what was wrong with the samples that were left out.
    """
    images = torch.stack([sample.image for sample in samples]) if samples else torch.zeros(0, 3, *size, dtype=torch.uint8)
    shared: dict[tuple[str, type], Labels] = {}
    targets: dict[str, Labels] = {}
    for name, task in tasks.items():
        rows = [row for row, sample in enumerate(samples) if task.label in sample.annotations]
        if not rows:
            continue
        source = (task.label, task.annotation)
        if source not in shared:
            value = task.annotation.collate([samples[row].annotations[task.label] for row in rows])
            shared[source] = Labels(value, None if len(rows) == len(samples) else rows)
        targets[name] = shared[source]
    ids = tuple(sample.id for sample in samples)
    return Batch(images.float() / 255, targets, ids, tuple(skipped))
