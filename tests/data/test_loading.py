"""Batches: the same ones however they are made, and nothing invented, lost or hidden."""

import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from tests.data.stubs import Listed, tasks
from ubertrain.annotation import RandomWarp
from ubertrain.data.batch import Batch
from ubertrain.data.loading import TrainLoader, evaluation_batches
from ubertrain.data.mixing import Mixer
from ubertrain.data.reader import Reader
from ubertrain.data.readers import READERS
from ubertrain.data.sample import Sample
from ubertrain.errors import ConfigError, DataError

SIZE = (6, 8)


def rooms_and_streets() -> dict[str, Reader]:
    """Two small sets with different labels."""
    return {"rooms": Listed([["depth", "normals"], ["depth"]] * 8), "streets": Listed([["boxes"], ["boxes", "depth"]] * 5)}


def loader(readers: dict[str, Reader], *, batch: int = 6, **keywords: Any) -> TrainLoader:
    """Batches for depth, boxes and normals."""
    keywords = {"size": SIZE} | keywords
    return TrainLoader(Mixer(readers, batch=batch, seed=5), tasks("depth", "boxes", "normals"), **keywords)


def leaves(batch: Batch) -> list[Any]:
    """All that a batch is, flat."""
    targets = {name: (labels.value, labels.rows) for name, labels in batch.targets.items()}
    return [*pytree.tree_leaves((batch.images, targets)), batch.ids, batch.skipped, *batch.targets]


def assert_same(ours: Sequence[Batch], theirs: Sequence[Batch]) -> None:
    """Assert that two sequences of batches are equal bit for bit."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for x, y in zip(leaves(one), leaves(other), strict=True):
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y


@pytest.fixture(scope="module")
def photos(data_root: Path) -> dict[str, Reader]:
    """Four real data sets that label different things."""
    pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")
    voc = READERS.make("voc", "", root=str(data_root / "VOCdevkit/VOC2012"), names="coco")
    return {
        "voc": voc,
        "coco": READERS.make("coco", "", root=str(data_root / "coco"), classes=voc.classes["boxes"], labels=["boxes"]),
        "rooms": READERS.make("seven_scenes", "", root=str(data_root / "7scenes-redkitchen")),
        "bsds": READERS.make("bsds500", "", root=str(data_root / "BSDS500")),
    }


def photo_loader(photos: dict[str, Reader], **keywords: Any) -> TrainLoader:
    """Real photographs, warped at random; VOC's three images without boxes are skipped."""
    warps = {name: RandomWarp(degrees=10) for name in photos}
    wanted = tasks("boxes", "depth", "normals", "edges")
    return TrainLoader(Mixer(photos, batch=6, seed=5), wanted, size=(96, 128), warps=warps, on_error="skip", **keywords)


def test_batches_do_not_depend_on_the_number_of_workers(photos: dict[str, Reader]) -> None:
    """This process and two workers make the same batches of real photographs, bit for bit."""
    alone = list(photo_loader(photos).batches(0, 6))
    assert_same(alone, list(photo_loader(photos, workers=2).batches(0, 6)))
    assert set().union(*(batch.targets for batch in alone)) == {"boxes", "depth", "normals", "edges"}


def test_a_run_can_begin_at_any_step(photos: dict[str, Reader]) -> None:
    """Beginning at step 3 gives what going through steps 0 to 2 first would have given."""
    assert_same(list(photo_loader(photos).batches(3, 6)), list(photo_loader(photos).batches(0, 6))[3:])


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_leaves_the_random_numbers_of_training_alone(workers: int) -> None:
    """The generator of torch is where it was, so that dropout does not depend on how data is loaded."""
    before = torch.get_rng_state()
    assert len(list(loader(rooms_and_streets(), workers=workers).batches(0, 4))) == 4
    assert torch.equal(torch.get_rng_state(), before)


def test_warps_differ_between_visits() -> None:
    """One image, drawn again and again, is seen differently each time."""
    one, warps = {"rooms": Listed([["class_map"]])}, {"rooms": RandomWarp(scale=(0.3, 0.9))}
    made = TrainLoader(Mixer(one, batch=1), tasks("class_map"), size=(60, 80), warps=warps).batches(0, 5)
    assert len({batch.targets["class_map"].value.numpy().tobytes() for batch in made}) == 5


def test_an_epoch_shows_every_image_once() -> None:
    """As many images as a set has are all of its images."""
    reader = Listed([["depth"]] * 12)
    made = TrainLoader(Mixer({"rooms": reader}, batch=4), tasks("depth"), size=SIZE).batches(0, 3)
    assert Counter(name for batch in made for name in batch.ids) == {f"rooms/{index}": 1 for index in range(12)}


def test_rows_of_a_task_are_contiguous() -> None:
    """Where an order exists in which each task's rows lie side by side, batches have it; ids and images move along."""
    for batch in loader(rooms_and_streets(), batch=12).batches(0, 8):
        for labels in batch.targets.values():
            rows = list(labels.rows if labels.rows is not None else range(12))
            assert rows == list(range(rows[0], rows[0] + len(rows)))
        shown = (batch.images[:, 0, 0, 0] * 255).round().int().tolist()
        assert [name.split("/")[1] for name in batch.ids] == [str(index) for index in shown]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_sample_ends_the_run_with_one_line(workers: int) -> None:
    """The error of a worker arrives as our DataError with its own message: no traceback of another process."""
    with pytest.raises(DataError) as caught:
        list(loader(rooms_and_streets() | {"rooms": Listed([["depth"], None])}, workers=workers).batches(0, 50))
    assert str(caught.value) == "data set 'rooms': sample 1 is broken"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_skipped_sample_leaves_its_batch_and_is_reported(workers: int) -> None:
    """Skipping makes the batch smaller by the broken samples, puts nothing in their place, and says why."""
    sets: dict[str, Reader] = {"rooms": Listed([["depth"], None, ["depth"], None])}
    made = list(TrainLoader(Mixer(sets, batch=4), tasks("depth"), size=SIZE, on_error="skip", workers=workers).batches(0, 3))
    for batch in made:
        assert sorted(batch.ids) == ["rooms/0", "rooms/2"]
        assert sorted(batch.skipped) == ["data set 'rooms': sample 1 is broken", "data set 'rooms': sample 3 is broken"]
        assert len(batch.images) == 2


def test_a_sample_without_a_wanted_label_is_an_error() -> None:
    """An image that labels no task says which labels were wanted and how to leave such images out."""
    sets = {"rooms": Listed([["normals"], ["edges"]])}
    made = TrainLoader(Mixer(sets, batch=2), tasks("normals"), size=SIZE)
    with pytest.raises(
        DataError, match=r"set 'rooms': sample '1' \(memory:1\) has no label that a task uses \(normals\).*labels: "
    ):
        next(made.batches())
    skipping = TrainLoader(Mixer(sets, batch=2), tasks("normals"), size=SIZE, on_error="skip")
    batch = next(skipping.batches())
    assert (batch.ids, len(batch.skipped)) == (("rooms/0",), 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_only_errors_of_the_data_can_be_skipped(workers: int) -> None:
    """A missing package stops the run, with its own message, also where damaged files would be skipped."""

    class NeedsMore(Listed):
        def read(self, index: int) -> Sample:
            raise ConfigError("install scipy")

    sets = {"rooms": NeedsMore([["depth"]])}
    with pytest.raises(ConfigError, match="^install scipy$"):
        next(TrainLoader(Mixer(sets, batch=1), tasks("depth"), size=SIZE, on_error="skip", workers=workers).batches())


def test_labels_that_no_task_wants_are_neither_asked_for_nor_carried() -> None:
    """A reader is narrowed to the wanted labels, and what it reads besides is left out."""

    class Remembers(Listed):
        def only(self, labels: Collection[str]) -> "Reader":
            self.asked = set(labels)
            return self

    rooms = Remembers([["depth", "normals", "edges"]])
    made = TrainLoader(Mixer({"rooms": rooms}, batch=1), tasks("normals", "depth"), size=SIZE)
    assert rooms.asked == {"normals", "depth"}
    assert set(next(made.batches()).targets) == {"normals", "depth"}


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_a_batch(world: int) -> None:
    """The parts of all processes together are the batch of one, each image once."""
    whole = list(loader(rooms_and_streets()).batches(2, 5))
    parts = [list(loader(rooms_and_streets(), rank=rank, world=world).batches(2, 5)) for rank in range(world)]
    for step, batch in enumerate(whole):
        assert sorted(batch.ids) == sorted(name for part in parts for name in part[step].ids)


def test_evaluation_shows_every_sample_once_in_order() -> None:
    """All samples in the order of the set, in full batches and a smaller last one."""
    made = list(evaluation_batches(Listed([["depth"]] * 7), tasks("depth"), name="val", size=SIZE, batch=3))
    assert [batch.ids for batch in made] == [("val/0", "val/1", "val/2"), ("val/3", "val/4", "val/5"), ("val/6",)]
    assert [len(batch.images) for batch in made] == [3, 3, 1]


def test_evaluation_fits_the_whole_image() -> None:
    """An image of 6x8 fills the middle of 12x24; beside it the image is black and depth is unknown."""
    batch = next(evaluation_batches(Listed([["depth"]] * 3), tasks("depth"), name="val", size=(12, 24), batch=3))
    shown = torch.zeros(12, 24)
    shown[:, 4:20] = 1
    assert torch.equal(batch.images[2, 0], shown * 2 / 255)
    assert torch.equal(batch.targets["depth"].value[2] != 0, shown.bool())


def test_evaluation_may_lack_tasks() -> None:
    """A set that labels one of two tasks is evaluated for that one; a set that labels neither is an error."""
    depth = Listed([["depth"]], {"depth": rooms_and_streets()["rooms"].kinds["depth"]})
    batch = next(evaluation_batches(depth, tasks("depth", "boxes"), name="val", size=SIZE, batch=1))
    assert set(batch.targets) == {"depth"}
    with pytest.raises(ConfigError, match="no task uses a label of data set 'val'; 'val' carries depth"):
        next(evaluation_batches(depth, tasks("boxes"), name="val", size=SIZE, batch=1))


def test_evaluation_is_divided_among_processes() -> None:
    """Two processes see every sample once between them."""
    reader = Listed([["depth"]] * 7)
    parts = [evaluation_batches(reader, tasks("depth"), name="v", size=SIZE, batch=2, rank=rank, world=2) for rank in (0, 1)]
    assert [[int(name[2:]) for batch in part for name in batch.ids] for part in parts] == [[0, 2, 4, 6], [1, 3, 5]]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"on_error": "ignore"}, 'on_error must be "raise" or "skip"; got \'ignore\''),
        ({"warps": {"kitchens": RandomWarp()}}, "a warp for 'kitchens', which is no data set; there are: rooms, streets"),
        ({"world": 7}, "a batch of 6 images cannot be shared by 7 processes"),
    ],
)
def test_wrong_settings_are_explained(keywords: dict[str, Any], message: str) -> None:
    """Each says what was given and what there is."""
    with pytest.raises(ConfigError, match=message):
        loader(rooms_and_streets(), **keywords)


def test_workers_leave_interrupts_to_their_parent() -> None:
    """Workers that get the interrupt of a terminal or scheduler go on, so that the parent can finish its step and save."""
    made = loader(rooms_and_streets(), workers=2).batches()
    first = [next(made) for _ in range(3)]
    workers = [str(worker.pid) for worker in multiprocessing.active_children()]
    assert len(workers) == 2
    for name in ("INT", "TERM"):
        subprocess.run(["sh", "-c", f"kill -{name} {' '.join(workers)}"], check=True)
    assert_same(first + [next(made) for _ in range(12)], list(loader(rooms_and_streets()).batches(0, 15)))


_ROOT = Path(__file__).parents[2]
_ABANDON = """
import itertools, multiprocessing, sys
from tests.data.test_loading import Listed, loader, rooms_and_streets

class Faulty(Listed):
    def read(self, index):
        raise KeyError("a mistake in a reader")

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    made = loader(rooms_and_streets(), workers=2).batches()
    print(len(list(itertools.islice(made, 3))))
    del made
    try:
        next(loader(rooms_and_streets() | {"rooms": Faulty([["depth"]])}, workers=1).batches())
    except KeyError as error:
        held = error  # and with it, the loader
        print("a mistake in a reader" in str(error))
    kept = loader(rooms_and_streets(), workers=2).batches()
    next(kept)
"""


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_leaving_early_is_quiet(tmp_path: Path, start: str) -> None:
    """A run that stops in the middle, by choice or by a bug, ends with batches under way and writes nothing to the terminal."""
    (tmp_path / "abandon.py").write_text(_ABANDON)
    command = [sys.executable, "-W", "error", str(tmp_path / "abandon.py"), start]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\nTrue\n", "")
