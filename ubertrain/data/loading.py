"""From draws to batches, in worker processes or in this one.

A worker makes a whole batch: reads, warps, orders and collates. What goes wrong with a sample comes back as a value, so that
the user sees its one line and not the traceback of another process.
"""

import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, Dataset

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.random_warp import RandomWarp
from ubertrain.annotation.warp import Warp
from ubertrain.data.batch import Batch
from ubertrain.data.blame import blame
from ubertrain.data.class_ids import check_for_tasks
from ubertrain.data.collate import collate
from ubertrain.data.mixing import Draw, Mixer
from ubertrain.data.reader import Reader
from ubertrain.data.row_order import row_order
from ubertrain.data.sample import Sample
from ubertrain.data.wanted import wanted_labels
from ubertrain.data.workers import closed_at_exit, end_workers, start_worker
from ubertrain.errors import ConfigError, DataError, UbertrainError
from ubertrain.task import Task

OnError = Literal["raise", "skip"]


class TrainLoader:
    """The batches of a training run: what the mixer draws, read, warped at random and put in order.

    The batch of a step depends on the mixer and on what is configured here, not on earlier steps or the number of workers.
    """

    def __init__(
        self,
        mixer: Mixer,
        tasks: Mapping[str, Task],
        *,
        size: tuple[int, int],
        warps: Mapping[str, RandomWarp] | None = None,
        workers: int = 0,
        on_error: OnError = "raise",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Load for `tasks`.

        Args:
            mixer: what to draw, for all processes together.
            tasks: name -> task; labels that none of them wants are not read where that saves work.
            size: (height, width) of every image.
            warps: data set -> how its images are varied; a set that is not mentioned is fitted whole into `size`.
            workers: processes that read; 0 reads in this process.
            on_error: what a sample that cannot be used does: "raise" ends the run with its `DataError`, "skip" leaves it out of
                its batch, which gets smaller, and its message in `Batch.skipped`.
            rank: which part of every batch is this process's, of `world`.
            world: how many processes share a batch.

        Raises:
            ConfigError: tasks and data sets do not fit, or fewer images in a batch than processes.
        """
        if unknown := set(warps or {}) - set(mixer.readers):
            raise ConfigError(f"a warp for {min(unknown)!r}, which is no data set; there are: {', '.join(mixer.readers)}")
        if mixer.batch < world:
            raise ConfigError(f"a batch of {mixer.batch} images cannot be shared by {world} processes; raise data: batch")
        self._mixer, self._workers, self._rank, self._world = mixer, workers, rank, world
        self._batches = _Batches(mixer.readers, tasks, size, on_error, warps or {}, ordered=True)

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The batches of steps `start` to `stop`, or on without end.

        A batch of which every sample was skipped has no images and no targets.

        Raises:
            DataError: a sample cannot be used, with `on_error="raise"`.
        """
        steps = itertools.count(start) if stop is None else range(start, stop)
        return _run(self._batches, (self._mixer.draw(step)[self._rank :: self._world] for step in steps), self._workers)


def evaluation_batches(
    reader: Reader,
    tasks: Mapping[str, Task],
    *,
    name: str,
    size: tuple[int, int],
    batch: int,
    workers: int = 0,
    on_error: OnError = "raise",
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Every sample once and in order, fitted whole into the network's input; the last batch may be smaller.

    Args:
        reader: the data set.
        tasks: name -> task; those whose label the set does not carry are absent from every batch.
        name: what the ids of the samples begin with.
        size: (height, width) of every image.
        batch: images per batch.
        workers: processes that read; 0 reads in this process.
        on_error: as for `TrainLoader`.
        rank: take every `world`-th sample, from this one on.
        world: how many processes share the set.

    Raises:
        ConfigError: the set carries no label that a task uses.
        DataError: a sample cannot be used, with `on_error="raise"`.
    """
    carried = {task_name: task for task_name, task in tasks.items() if task.label in reader.kinds}
    batches = _Batches({name: reader}, carried, size, on_error, {}, ordered=False)
    draws = [Draw(name, index, 0) for index in range(rank, len(reader), world)]
    return _run(batches, (draws[i : i + batch] for i in range(0, len(draws), batch)), workers)


def warped(sample: Sample, warp: Warp, kinds: Mapping[str, type[Annotation]]) -> Sample:
    """The sample as `warp` shows it; the image is padded with black, the annotations with what they call unknown."""
    image = warp.sample(sample.image.float(), mode="bilinear", fill=0.0).round().to(torch.uint8)
    annotations = {label: kinds[label].warp(value, warp) for label, value in sample.annotations.items()}
    return replace(sample, image=image, annotations=annotations)


@dataclass(frozen=True)
class _Fault:
    """An error on its way from a worker."""

    kind: type[UbertrainError]
    message: str


class _Batches(Dataset[Batch | _Fault]):
    """Draws -> batch. An instance is copied into every worker."""

    def __init__(
        self,
        readers: Mapping[str, Reader],
        tasks: Mapping[str, Task],
        size: tuple[int, int],
        on_error: OnError,
        warps: Mapping[str, RandomWarp],
        *,
        ordered: bool,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ConfigError(f'on_error must be "raise" or "skip"; got {on_error!r}')
        self.labels = wanted_labels(readers, tasks)
        self.readers = {name: reader.only(self.labels[name]) for name, reader in readers.items()}
        self.tasks, self.size, self.on_error, self.warps, self.ordered = dict(tasks), size, on_error, dict(warps), ordered

    def __getitem__(self, draws: Sequence[Draw]) -> Batch | _Fault:
        samples, skipped = [], []
        try:
            for draw in draws:
                try:
                    samples.append(self._sample(draw))
                except DataError as error:
                    if self.on_error == "raise":
                        raise
                    skipped.append(str(error))
        except UbertrainError as error:
            return _Fault(type(error), str(error))
        if self.ordered:
            samples = [samples[position] for position in row_order([sample.annotations.keys() for sample in samples])]
        return collate(samples, self.tasks, size=self.size, skipped=skipped)

    def _sample(self, draw: Draw) -> Sample:
        reader, labels = self.readers[draw.set], self.labels[draw.set]
        with blame(f"data set {draw.set!r}"):
            sample = reader.read(draw.index)
            annotations = {label: value for label, value in sample.annotations.items() if label in labels}
            if not annotations:
                wanted = ", ".join(sorted(labels))
                raise DataError(
                    f"sample {sample.id!r} ({sample.source}) has no label that a task uses ({wanted}); where a data set takes "
                    f"the key `labels`, labels: [{wanted}] leaves such samples out"
                )
            check_for_tasks(sample, self.tasks)
            sample = replace(sample, id=f"{draw.set}/{sample.id}", annotations=annotations)
            return warped(sample, self._warp(draw, (sample.image.shape[1], sample.image.shape[2])), reader.kinds)

    def _warp(self, draw: Draw, source: tuple[int, int]) -> Warp:
        if draw.set not in self.warps:
            return Warp.fit(source, self.size)
        return self.warps[draw.set].draw(source, self.size, torch.Generator().manual_seed(draw.seed))


def _run(batches: _Batches, draws: Iterable[Sequence[Draw]], workers: int) -> Iterator[Batch]:
    """The batches of `draws`, in order."""
    return closed_at_exit(_generate(batches, draws, workers))


def _generate(batches: _Batches, draws: Iterable[Sequence[Draw]], workers: int) -> Generator[Batch, None, None]:
    loader = DataLoader(
        batches,
        batch_size=None,  # what the sampler yields is a batch already
        sampler=draws,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # else the loader takes a number from torch's own, and a resumed run differs
    )
    iterator = iter(loader)
    try:
        for made in iterator:
            if isinstance(made, _Fault):
                raise made.kind(made.message)
            yield made
    finally:
        end_workers(iterator)


def _as_it_is(made: Any) -> Any:
    return made
