"""Batches of partly labelled samples."""

import torch

from tests.data.stubs import KINDS, Wants, blank, tasks
from ubertrain.annotation import ClassMap, Depth
from ubertrain.data.collate import collate
from ubertrain.data.sample import Sample

SIZE = (6, 8)


def sample(number: int, *labels: str) -> Sample:
    """A sample whose pixels and values carry `number`."""
    values = {label: blank(label, SIZE, number) for label in labels}
    return Sample(f"set/{number}", torch.full((3, *SIZE), number, dtype=torch.uint8), values)


def test_rows_are_those_that_carry_the_label() -> None:
    """Each task gets the values of its rows and where they are; all rows in order need no list."""
    batch = collate(
        [sample(0, "depth"), sample(1, "depth", "class_map"), sample(2, "depth")], tasks("depth", "class_map"), size=SIZE
    )
    assert batch.targets["depth"].rows is None
    assert batch.targets["depth"].value[:, 0, 0].tolist() == [0, 1, 2]
    assert batch.targets["class_map"].rows == [1]
    assert batch.targets["class_map"].value[:, 0, 0].tolist() == [1]
    assert batch.ids == ("set/0", "set/1", "set/2")


def test_what_nobody_labels_is_absent() -> None:
    """A task without labelled rows has no target; no empty or zero label is made up."""
    batch = collate([sample(0, "depth")], tasks("depth", "boxes", "edges", "normals"), size=SIZE)
    assert set(batch.targets) == {"depth"}


def test_an_image_without_objects_is_labelled() -> None:
    """A sample whose boxes are empty keeps its row, beside one that is not labelled."""
    empty = {
        "boxes": torch.zeros(0, 4),
        "classes": torch.zeros(0, dtype=torch.int64),
        "ignore": torch.zeros(0, dtype=torch.bool),
    }
    negative = Sample("set/0", torch.zeros(3, *SIZE, dtype=torch.uint8), {"boxes": empty})
    labels = collate([negative, sample(1, "depth")], tasks("boxes"), size=SIZE).targets["boxes"]
    assert labels.rows == [0]
    assert labels.value["classes"].tolist() == [[-1]]


def test_images_are_between_0_and_1() -> None:
    """Pixels 0 and 255 become 0.0 and 1.0, float32."""
    images = collate([sample(0, "depth"), sample(255, "depth")], tasks("depth"), size=SIZE).images
    assert images.dtype == torch.float32
    assert images.shape == (2, 3, *SIZE)
    assert images.amin(dim=(1, 2, 3)).tolist() == images.amax(dim=(1, 2, 3)).tolist() == [0, 1]


def test_tasks_of_one_label_share_its_tensors() -> None:
    """Two tasks that read the same label do not hold it twice; a task with another key has its own."""
    wants = {"near": Wants(Depth), "far": Wants(Depth), "inverse": Wants(Depth, "disparity")}
    one = sample(3, "depth")
    both = Sample(one.id, one.image, {**one.annotations, "disparity": torch.ones(SIZE)})
    targets = collate([both], wants, size=SIZE).targets
    assert targets["near"].value is targets["far"].value
    assert targets["inverse"].value.unique().tolist() == [1]


def test_nothing_left_is_a_batch_of_no_images() -> None:
    """A batch of which everything was skipped has no image, no target, and says why."""
    batch = collate([], tasks(*KINDS), size=SIZE, skipped=["a is broken"])
    assert batch.images.shape == (0, 3, *SIZE)
    assert (dict(batch.targets), batch.ids, batch.skipped) == ({}, (), ("a is broken",))


def test_kinds_of_one_family_collate_alike() -> None:
    """A label of a derived kind feeds a task that wants the kind it derives from."""

    class Parts(ClassMap):
        key = "parts"

    value = Sample("set/0", torch.zeros(3, *SIZE, dtype=torch.uint8), {"parts": blank("class_map", SIZE, 4)})
    assert collate([value], {"parts": Wants(Parts)}, size=SIZE).targets["parts"].value.unique().tolist() == [4]
