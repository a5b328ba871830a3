"""COCO, real files: against the YOLO boxes and the semantic maps that others made of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.data.stubs import picture
from ubertrain.data.coco import Coco
from ubertrain.data.inventory import count
from ubertrain.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def train(data_root: Path) -> Coco:
    """The training split with COCO's own classes."""
    return Coco(str(data_root / "coco"))


def tiny(root: Path, **changes: Any) -> Coco:
    """A set of one image of 6x8 pixels whose only annotation has `changes`."""
    picture(root / "train2017/000000000007.jpg")
    annotation = {"image_id": 7, "id": 1, "bbox": [1, 2, 3, 4], "category_id": 3, "iscrowd": 0} | changes
    content = {
        "images": [{"id": 7, "file_name": "000000000007.jpg"}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    return Coco(str(root))


@pytest.mark.parametrize(("split", "images", "objects", "crowds"), [("train2017", 72, 602, 5), ("val2017", 26, 180, 1)])
def test_every_image_is_labelled(data_root: Path, split: str, images: int, objects: int, crowds: int) -> None:
    """All images of a split carry boxes and a class map, also where boxes come from the panoptic file."""
    reader = Coco(str(data_root / "coco"), split)
    assert count(reader).labels == {"boxes": images, "class_map": images}
    boxes = [reader.only(["boxes"]).read(index).annotations["boxes"] for index in range(images)]
    assert sum(len(value["boxes"]) for value in boxes) == objects
    assert sum(int(value["ignore"].sum()) for value in boxes) == crowds


def test_an_image_without_objects_is_a_labelled_negative(train: Coco) -> None:
    """Image 250, which COCO lists and in which it annotates nothing, has boxes: none."""
    boxes = train.only(["boxes"]).read(train.ids.index("000000000250")).annotations["boxes"]
    assert {name: tuple(value.shape) for name, value in boxes.items()} == {"boxes": (0, 4), "classes": (0,), "ignore": (0,)}


def test_boxes_are_where_yolo_has_them(train: Coco, data_root: Path) -> None:
    """Each box of the YOLO files (class rank, centre and size as fractions) is one of ours, to less than a pixel."""
    reader = train.only(["boxes"])
    for index in range(20):
        sample = reader.read(index)
        height, width = sample.image.shape[1:]
        boxes = sample.annotations["boxes"]
        ours = torch.cat([boxes["classes"][:, None].float(), boxes["boxes"]], dim=1)
        for line in (data_root / f"coco/labels_yolo/train2017/{sample.id}.txt").read_text().splitlines():
            kind, x, y, w, h = map(float, line.split())
            theirs = torch.tensor([kind, (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height])
            assert (ours - theirs).abs().amax(dim=1).min() < 0.75, (sample.id, line)


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_panoptic_and_semantic_files_give_one_map(data_root: Path, tmp_path: Path, split: str) -> None:
    """Class maps made of panoptic segments equal those made of ready maps, unlabelled pixels included."""
    for name in ("annotations", split):
        (tmp_path / name).symlink_to(data_root / "coco" / name)
    ready = Coco(str(data_root / "coco"), split, labels=["class_map"], take=":8")
    derived = Coco(str(tmp_path), split, labels=["class_map"], take=":8")
    for index in range(8):
        assert torch.equal(ready.read(index).annotations["class_map"], derived.read(index).annotations["class_map"])


def test_category_ids_may_have_any_size(tmp_path: Path) -> None:
    """Other sets in COCO's format number their categories as they like."""
    picture(tmp_path / "train2017/a.jpg")
    (tmp_path / "annotations/panoptic_train2017").mkdir(parents=True)
    Image.new("RGB", (8, 6), (9, 0, 0)).save(tmp_path / "annotations/panoptic_train2017/a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "segments_info": [{"id": 9, "category_id": 1203, "bbox": [0, 0, 8, 6]}]}],
        "categories": [{"id": 4, "name": "cat"}, {"id": 1203, "name": "zither"}],
    }
    (tmp_path / "annotations/panoptic_train2017.json").write_text(json.dumps(content))
    reader = Coco(str(tmp_path), labels=["class_map"])
    ids = reader.read(0).annotations["class_map"]
    assert reader.classes["class_map"][int(ids.unique())] == "zither"


def test_chosen_classes_are_renumbered_and_others_left_out(data_root: Path, train: Coco) -> None:
    """A list of classes keeps exactly their boxes, with ids in the order of the list."""
    chosen = Coco(str(data_root / "coco"), classes=["dog", "person"], labels=["boxes"])
    for index in range(len(chosen)):
        full, part = (reader.only(["boxes"]).read(index).annotations["boxes"] for reader in (train, chosen))
        names = [train.classes["boxes"][number] for number in full["classes"]]
        kept = [name in ("dog", "person") for name in names]
        assert torch.equal(part["boxes"], full["boxes"][kept])
        assert [("dog", "person")[number] for number in part["classes"]] == [n for n in names if n in ("dog", "person")]


def test_groups_of_pixel_classes(data_root: Path, train: Coco) -> None:
    """Groups merge COCO's categories; what is in no group becomes the background, and unlabelled stays unknown."""
    groups = {"human": ["person"], "vehicle": ["car", "bus", "truck"]}
    grouped = Coco(str(data_root / "coco"), class_map=groups, rest="background", labels=["class_map"], take=":12")
    assert grouped.classes["class_map"] == ("background", "human", "vehicle")
    table = torch.zeros(256, dtype=torch.int64)
    table[255] = 255
    for number, name in enumerate(train.classes["class_map"]):
        table[number] = 1 if name == "person" else 2 if name in groups["vehicle"] else 0
    for index in range(12):
        full = train.only(["class_map"]).read(index).annotations["class_map"]
        assert torch.equal(grouped.read(index).annotations["class_map"], table[full])


def test_unlisted_labels_are_not_decoded(data_root: Path, tmp_path: Path) -> None:
    """A set narrowed to boxes reads no maps, so a missing folder of maps does not matter, and samples stay the same."""
    reader = Coco(str(data_root / "coco"), labels=["boxes"], take="3:5")
    assert list(reader.read(1).annotations) == ["boxes"]
    assert list(reader.kinds) == ["boxes"]


@pytest.mark.parametrize(
    ("bbox", "message"),
    [
        ([1, 2, -3, 4], r"box 0 of 1 \(1 2 -2 6\) is not x0 y0 x1 y1"),
        ([5, 2, 30, 2], r"box 0 of 1 \(5 2 35 4\) is outside the image, which is 8 wide and 6 high"),
        ([float("nan"), 2, 3, 2], "box 0 of 1 .* is not finite"),
    ],
)
def test_impossible_boxes_name_file_sample_and_box(tmp_path: Path, bbox: list[float], message: str) -> None:
    """A negative size, a box outside its image and a nan name the set, the sample, the file and the box."""
    with pytest.raises(DataError, match=rf"coco, sample '000000000007': .*instances_train2017.json: {message}.*on_error: skip"):
        tiny(tmp_path, bbox=bbox).read(0)


def test_rounding_at_the_border_is_trimmed(tmp_path: Path) -> None:
    """A box that sticks out by less than a pixel ends at the border."""
    assert tiny(tmp_path, bbox=[-0.4, 2, 9, 4]).read(0).annotations["boxes"]["boxes"].tolist() == [[0, 2, 8, 6]]


@pytest.mark.parametrize(
    ("bbox", "corners"), [([1, 2, 3, 0], [1, 1.5, 4, 2.5]), ([8, 6, 0, 0], [7.5, 5.5, 8, 6]), ([0, 1, 0, 2], [0, 1, 0.5, 3])]
)
def test_boxes_without_extent_are_ignored(tmp_path: Path, bbox: list[float], corners: list[float]) -> None:
    """The few boxes of COCO that have no height or width, on the border too, count neither as found nor as missed."""
    boxes = tiny(tmp_path, bbox=bbox).read(0).annotations["boxes"]
    assert (boxes["boxes"].tolist(), boxes["ignore"].tolist()) == ([corners], [True])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 8}, "annotation 1 is of image 8, which the file does not list"),
        ({"category_id": 2}, "has regions of category 2, which it does not list"),
    ],
)
def test_objects_of_what_is_not_listed_are_refused(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    """An object of an unknown class would be lost, and its image be learned as empty."""
    with pytest.raises(DataError, match=rf"instances_train2017.json: {message}"):
        tiny(tmp_path, **changes)


def test_images_of_one_name_are_refused(tmp_path: Path) -> None:
    """In two folders: one would stand for both."""
    tiny(tmp_path)
    file = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["images"].append({"id": 8, "file_name": "other/000000000007.jpg"})
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="two of its images have the same file name"):
        Coco(str(tmp_path))


def test_broken_json_is_named(tmp_path: Path) -> None:
    """JSON that ends early and JSON of another form name the file and the place or key."""
    file = tmp_path / "annotations/instances_train2017.json"
    tiny(tmp_path)
    file.write_text(file.read_text()[:50])
    with pytest.raises(DataError, match=r"instances_train2017.json: cannot be read as JSON \(.*char"):
        Coco(str(tmp_path))
    file.write_text('{"images": []}')
    with pytest.raises(DataError, match=r"instances_train2017.json: is not a COCO annotation file \(KeyError: 'annotations'"):
        Coco(str(tmp_path))


def test_what_is_not_there_is_explained(tmp_path: Path, data_root: Path) -> None:
    """A missing folder, missing JSON files, a missing image and an unknown class each say what was expected."""
    with pytest.raises(DataError, match="there is no folder .*nowhere; it should hold the folders of COCO"):
        Coco(str(tmp_path / "nowhere"))
    picture(tmp_path / "train2017/1.jpg")
    with pytest.raises(DataError, match=r"neither .*instances_train2017.json nor .*panoptic_train2017.json exists"):
        Coco(str(tmp_path))
    reader = tiny(tmp_path / "tiny")
    (tmp_path / "tiny/train2017/000000000007.jpg").unlink()
    with pytest.raises(DataError, match=r"sample '000000000007': .*000000000007.jpg: there is no such file"):
        reader.read(0)
    with pytest.raises(ConfigError, match="coco, classes: no class 'aeroplane'; did you mean 'airplane'"):
        Coco(str(data_root / "coco"), classes=["aeroplane"])
    with pytest.raises(ConfigError, match="coco, class_map: there is no .*panoptic_train2017.json"):
        Coco(str(tmp_path / "tiny"), class_map=["car"])
