import pickle
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.data.readers import READERS
from ubertrain.data.sample import Sample
from ubertrain.data.scenes import Scenes
from ubertrain.errors import ConfigError, DataError
from ubertrain.ops.disparity import shifted

LABELS = ("boxes", "class_map", "depth", "normals", "edges")
SCENES = Scenes(images=12, size=(96, 128), keep="all")
every_scene = pytest.mark.parametrize("index", range(12))


@cache
def scene(index: int) -> Sample:
    """A fully labelled image; rendered once for all tests."""
    return SCENES.read(index)


def same(first: Sample, second: Sample) -> bool:
    """Whether two samples agree bit for bit."""
    leaves = [torch.utils._pytree.tree_leaves((sample.image, sample.annotations)) for sample in (first, second)]
    return first.id == second.id and all(torch.equal(one, two) for one, two in zip(*leaves, strict=True))


def smooth(edges: Tensor) -> Tensor:
    """Pixels, but for the image's border, whose 3 x 3 neighbourhood lies on one face: (height - 2, width - 2) bool."""
    return F.max_pool2d(edges.float(), 3, stride=1)[0] == 0


def test_an_image_depends_on_seed_and_index_alone() -> None:
    """Read again, out of order, from another reader, pickled or of another length, image 3 is the same bit for bit."""
    again = pickle.loads(pickle.dumps(Scenes(images=4, size=(96, 128), keep="all")))
    again.read(1)
    assert same(again.read(3), scene(3))


def test_another_seed_is_another_data_set() -> None:
    """Training and validation with different seeds share no image."""
    other = Scenes(images=12, size=(96, 128), keep="all", seed=1)
    assert not any(torch.equal(other.read(index).image, scene(index).image) for index in range(4))


def test_all_images_differ() -> None:
    """No two images of a data set are alike."""
    assert len({scene(index).image.numpy().tobytes() for index in range(12)}) == 12


@every_scene
def test_every_label_is_valid(index: int) -> None:
    """Each label passes its kind's check for the image's size, and its class ids have names."""
    sample = scene(index)
    assert sample.image.dtype == torch.uint8
    assert sample.image.shape == (3, 96, 128)
    assert tuple(sample.annotations) == LABELS
    for label, value in sample.annotations.items():
        SCENES.kinds[label].check(value, (96, 128))
    assert sample.annotations["boxes"]["classes"].max() < len(SCENES.classes["boxes"])
    assert sample.annotations["class_map"].max() < len(SCENES.classes["class_map"])


@every_scene
def test_geometry_is_known_everywhere(index: int) -> None:
    """Rooms are closed: every pixel has a depth, and a normal that faces the camera along its own ray."""
    depth, normals = scene(index).annotations["depth"], scene(index).annotations["normals"]
    assert depth.min() > 0.3
    assert depth.max() < 20
    assert (normals * rays()).sum(0).max() < 0


@every_scene
def test_normals_are_those_of_the_depth(index: int) -> None:
    """On smooth surfaces the normals equal those of the depth map, put back into space and differentiated."""
    annotations = scene(index).annotations
    place = annotations["depth"] * rays()
    across, down = place[:, 1:-1, 2:] - place[:, 1:-1, :-2], place[:, 2:, 1:-1] - place[:, :-2, 1:-1]
    derived = -F.normalize(torch.linalg.cross(across, down, dim=0), dim=0)
    cosine = (derived * annotations["normals"][:, 1:-1, 1:-1]).sum(0)
    errors = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))[smooth(annotations["edges"])]
    assert len(errors) > 6000
    assert errors.median() < 0.1
    assert errors.quantile(0.999) < 5


@every_scene
def test_depth_jumps_only_at_edges(index: int) -> None:
    """Between neighbours that no edge divides, a plane through the depth predicts the next pixel: the edges are complete."""
    annotations = scene(index).annotations
    inverse = 1 / annotations["depth"]  # of a plane, it is linear in the image
    bend = (inverse[1:-1, 2:] - 2 * inverse[1:-1, 1:-1] + inverse[1:-1, :-2]).abs() / inverse[1:-1, 1:-1]
    assert bend[smooth(annotations["edges"])].max() < 0.05
    assert bend.max() > 0.05


def rays() -> Tensor:
    """The direction of every pixel, with z = 1: (3, height, width)."""
    x, y = (torch.arange(128) + 0.5 - 64) / SCENES.focal, (torch.arange(96) + 0.5 - 48) / SCENES.focal
    return torch.stack(torch.broadcast_tensors(x, y[:, None], torch.ones(())))


@every_scene
def test_boxes_are_tight(index: int) -> None:
    """Where a class has one box, the box is the extent of that class's pixels; every object's pixels are in some box."""
    names, boxes, classes = SCENES.classes, scene(index).annotations["boxes"], scene(index).annotations["class_map"]
    for number, name in enumerate(names["boxes"]):
        rows, columns = (classes == names["class_map"].index(name)).nonzero(as_tuple=True)
        mine = boxes["boxes"][boxes["classes"] == number]
        assert bool(len(mine)) == bool(len(rows))
        if len(mine):
            extent = torch.cat([mine[:, :2].amin(0), mine[:, 2:].amax(0)])
            assert extent.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_scenes_are_worth_learning_from() -> None:
    """Over a few images all classes occur, and most objects count."""
    boxes = [scene(index).annotations["boxes"] for index in range(12)]
    assert torch.cat([box["classes"] for box in boxes]).unique().tolist() == [0, 1, 2, 3]
    assert torch.cat([box["ignore"] for box in boxes]).float().mean() < 0.2
    assert torch.stack([scene(index).annotations["class_map"] for index in range(12)]).unique().tolist() == [0, 1, 2, 3, 4, 5]


def test_slivers_are_ignored() -> None:
    """An object of which hardly a pixel can be seen neither counts as found nor as missed."""
    boxes = [Scenes(size=(16, 20), keep=["boxes"]).read(index).annotations["boxes"] for index in range(20)]
    side = torch.cat([box["boxes"][:, 2:] - box["boxes"][:, :2] for box in boxes]).amin(dim=1)
    ignore = torch.cat([box["ignore"] for box in boxes])
    assert ignore[side < 3].all()
    assert not ignore.all()


def test_empty_rooms_are_labelled_negatives() -> None:
    """Without objects there is a box label, and it is empty."""
    assert Scenes(size=(32, 40), keep="all", objects=(0, 0)).read(0).annotations["boxes"]["boxes"].shape == (0, 4)


def test_images_are_partially_labelled_by_default() -> None:
    """Each image carries one to three of the five labels, each number and each label occurs, and the data set offers all."""
    scenes = Scenes(images=60, size=(16, 20))
    carried = [tuple(scenes.read(index).annotations) for index in range(60)]
    assert {len(labels) for labels in carried} == {1, 2, 3}
    assert {label for labels in carried for label in labels} == set(LABELS) == set(scenes.kinds)
    assert len(set(carried)) > 10


@pytest.mark.parametrize(
    ("keep", "kinds", "carried"),
    [
        ("all", LABELS, LABELS),
        (["normals", "depth"], ("depth", "normals"), ("depth", "normals")),
        ("edges", ("edges",), ("edges",)),
        ({"min": 5}, LABELS, LABELS),
        ({"max": 0}, LABELS, ()),
    ],
)
def test_keep_decides_what_is_carried(keep: Any, kinds: tuple[str, ...], carried: tuple[str, ...]) -> None:
    """A list is what every image carries and all that the data set offers; numbers are bounds."""
    scenes = Scenes(size=(16, 20), keep=keep)
    assert tuple(scenes.kinds) == kinds
    assert set(scenes.classes) == {"boxes", "class_map"} & set(kinds)
    assert all(tuple(scenes.read(index).annotations) == carried for index in range(3))


def test_keep_changes_labels_and_no_pictures() -> None:
    """The same image with fewer labels is the same image, and the labels that are left are the same."""
    partial = Scenes(images=12, size=(96, 128)).read(5)
    assert torch.equal(partial.image, scene(5).image)
    kept = {label: scene(5).annotations[label] for label in partial.annotations}
    assert same(partial, Sample(partial.id, partial.image, kept))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"images": 0}, "images must be at least 1"),
        ({"seed": -1}, "seed at least 0"),
        ({"size": [128]}, "size must be two whole numbers"),
        ({"size": [4, 4]}, "of at least 16"),
        ({"objects": [3, 2]}, "fewest, most"),
        ({"keep": ["depht"]}, "boxes, class_map, depth, normals, edges; got .*depht"),
        ({"keep": "some"}, "got 'some'"),
        ({"keep": []}, "keep must be"),
        ({"keep": {"min": 4, "max": 2}}, "0 <= a <= b <= 5"),
        ({"keep": {"least": 2}}, "least"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keywords: dict[str, Any], message: str) -> None:
    """A `ConfigError` names the setting, what it may be and what it was."""
    with pytest.raises(ConfigError, match=message):
        Scenes(**keywords)


@pytest.mark.parametrize("index", [-1, 12])
def test_there_are_no_images_beyond_the_last(index: int) -> None:
    """Reading outside of the data set is a `DataError` that says how many images there are."""
    with pytest.raises(DataError, match="there are 12"):
        SCENES.read(index)


def test_yaml_finds_it_by_name() -> None:
    """The registry makes it from lists, as YAML has them."""
    scenes = READERS.make("scenes", "", images=3, size=[16, 20], keep=["depth"], objects=[1, 2])
    assert len(scenes) == 3
    assert scenes.read(2).annotations["depth"].shape == (16, 20)


def test_other_sizes_show_the_same_room() -> None:
    """A picture twice as large shows the same scene: shrunk by two, it has the same classes but for outlines."""
    large = Scenes(images=12, size=(192, 256), keep="all").read(2).annotations
    agree = large["class_map"][::2, ::2] == scene(2).annotations["class_map"]
    assert agree.float().mean() > 0.97
    assert torch.allclose(large["depth"].mean(), scene(2).annotations["depth"].mean(), rtol=0.01)


def test_pictures_are_well_exposed() -> None:
    """No image is nearly black or nearly white, and each has contrast."""
    for index in range(12):
        image = scene(index).image.numpy().astype(np.float32)
        assert 70 < image.mean() < 210
        assert image.std() > 15


PAIRS = Scenes(images=4, size=(96, 128), keep="all", baseline=0.25)


def test_a_second_camera_changes_nothing_for_the_first() -> None:
    """Picture and labels are those of the data set without it, bit for bit."""
    with_pair = PAIRS.read(2)
    assert torch.equal(with_pair.image, scene(2).image)
    assert torch.equal(with_pair.annotations["depth"], scene(2).annotations["depth"])
    assert tuple(with_pair.annotations) == (*LABELS, "stereo")


@pytest.mark.parametrize("index", range(4))
def test_the_second_camera_sees_the_image_shifted_by_the_disparity(index: int) -> None:
    """Where both see the same: the image made of the other view is the image, to a few grey levels; unshifted it is not."""
    sample = PAIRS.read(index)
    pair = sample.annotations["stereo"]
    assert torch.equal(pair["own"], sample.image)
    torch.testing.assert_close(pair["scale"] / pair["disparity"], sample.annotations["depth"])
    own, other = pair["own"][None].float(), pair["other"][None].float()
    made = shifted(other, -(pair["disparity"] * 128)[None])
    difference, unshifted = ((own - view).abs().mean(dim=1)[..., 32:] for view in (made, other))
    assert difference.median() < 2
    assert difference.mean() < 0.6 * unshifted.mean()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"baseline": -0.1}, "baseline is between 0"),
        ({"baseline": 3.0}, "baseline is between 0"),
        ({"keep": ["stereo"]}, "stereo needs a baseline"),
    ],
)
def test_a_second_camera_that_cannot_be_is_refused(keywords: dict[str, Any], message: str) -> None:
    """It would stand behind a wall, or nowhere."""
    with pytest.raises(ConfigError, match=message):
        Scenes(**keywords)
