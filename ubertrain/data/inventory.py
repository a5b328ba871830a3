"""What a data set really holds, found by reading all of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ubertrain.data.class_ids import check_for_tasks
from ubertrain.data.reader import Reader
from ubertrain.errors import DataError
from ubertrain.task import Task


@dataclass(frozen=True)
class Inventory:
    """The outcome of reading every sample of a data set.

    Attributes:
        images: samples that could be read.
        labels: label name -> how many of them carry it; a label that an image does not carry says nothing about the image.
        unlabelled: ids of those that carry no label at all.
        faults: one message for every sample that could not be read; names the file and what is wrong with it.
    """

    images: int
    labels: Mapping[str, int]
    unlabelled: tuple[str, ...]
    faults: tuple[str, ...]


def count(reader: Reader, tasks: Mapping[str, Task] = {}) -> Inventory:
    """Read every sample of `reader` and check it, also against the classes of `tasks`."""
    images, labels = 0, dict.fromkeys(reader.kinds, 0)
    unlabelled, faults = [], []
    for index in range(len(reader)):
        try:
            sample = reader.read(index)
            check_for_tasks(sample, tasks)
        except DataError as error:
            faults.append(str(error))
            continue
        images += 1
        for label in sample.annotations:
            labels[label] += 1
        if not sample.annotations:
            unlabelled.append(sample.id)
    return Inventory(images, labels, tuple(unlabelled), tuple(faults))
