"""PASCAL VOC, real files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.stubs import picture
from ubertrain.data.coco import Coco
from ubertrain.data.inventory import count
from ubertrain.data.voc import CLASSES, Voc
from ubertrain.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def voc(data_root: Path) -> Voc:
    """All images that the lists name."""
    return Voc(str(data_root / "VOCdevkit/VOC2012"))


def tiny(root: Path, xml: str) -> Voc:
    """A set of one image of 6x8 pixels with this XML."""
    picture(root / "JPEGImages/a.jpg")
    for name, text in (("ImageSets/Main/trainval.txt", "a\n"), ("Annotations/a.xml", xml)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Voc(str(root))


def thing(name: str = "dog", box: tuple[float, ...] = (2, 3, 4, 5)) -> str:
    """The XML of an image with one object."""
    sides = "".join(f"<{side}>{x}</{side}>" for side, x in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<annotation><object><name>{name}</name><bndbox>{sides}</bndbox></object></annotation>"


def test_a_missing_label_stays_missing(voc: Voc) -> None:
    """Of 78 images 75 have boxes and 4 have masks; the others carry no such label, not an empty one."""
    found = count(voc)
    assert (found.images, found.labels, found.faults) == (78, {"boxes": 75, "class_map": 4}, ())


def test_a_label_without_a_folder_is_not_offered(tmp_path: Path) -> None:
    """A task cannot be promised masks that nobody has unpacked."""
    assert set(tiny(tmp_path, thing()).kinds) == {"boxes"}


def test_difficult_objects_are_ignored(voc: Voc, data_root: Path) -> None:
    """There are as many boxes and as many ignored ones as the XML files say by plain text search."""
    texts = [path.read_text() for path in (data_root / "VOCdevkit/VOC2012/Annotations").glob("*.xml")]
    reader = voc.only(["boxes"])
    boxes = [s.annotations["boxes"] for s in map(reader.read, range(len(reader))) if "boxes" in s.annotations]
    assert sum(len(value["boxes"]) for value in boxes) == sum(text.count("<difficult>") for text in texts) == 200
    assert sum(int(value["ignore"].sum()) for value in boxes) == sum(text.count("<difficult>1") for text in texts) == 24


def test_boxes_count_from_zero(voc: Voc) -> None:
    """Left and top go down by one, right and bottom stay: the box of the file is 174 101 349 351."""
    boxes = voc.read(voc.ids.index("2007_000027")).annotations["boxes"]
    assert boxes["boxes"].tolist() == [[173, 100, 349, 351]]
    assert [CLASSES[number] for number in boxes["classes"]] == ["person"]


def test_boxes_enclose_the_mask(voc: Voc) -> None:
    """The box of the chair in 2007_000063 begins on the very pixel on which its outline in the mask begins."""
    sample = voc.read(voc.ids.index("2007_000063"))
    chair = sample.annotations["boxes"]["boxes"][1].tolist()
    rows, columns = torch.where(sample.annotations["class_map"] != 0)
    assert [columns.min().item(), rows.min().item()] == chair[:2]
    assert columns.max() + 1 == pytest.approx(chair[2], abs=1)
    assert rows.max() + 1 == chair[3]


def test_mask_ids_are_those_of_the_palette_image(voc: Voc) -> None:
    """A dog and a chair on background with unknown outlines: ids 12, 9, 0, 255, named by `classes`."""
    mask = voc.read(voc.ids.index("2007_000063")).annotations["class_map"]
    assert mask.unique().tolist() == [0, 9, 12, 255]
    assert [voc.classes["class_map"][number] for number in (0, 9, 12)] == ["background", "chair", "dog"]


def test_names_of_coco(data_root: Path) -> None:
    """With COCO's names the ids stay and the names are COCO's, so that COCO can be read with the same list."""
    voc = Voc(str(data_root / "VOCdevkit/VOC2012"), names="coco")
    coco = Coco(str(data_root / "coco"), classes=voc.classes["boxes"])
    assert coco.classes["boxes"] == voc.classes["boxes"]
    assert voc.classes["boxes"][0] == "airplane"


def test_chosen_classes_are_renumbered(tmp_path: Path) -> None:
    """Only the named classes are kept, in the user's order; an image without them is a labelled negative."""
    tiny(tmp_path, thing("dog"))
    assert Voc(str(tmp_path), classes=["cat", "dog"]).read(0).annotations["boxes"]["classes"].tolist() == [1]
    assert Voc(str(tmp_path), classes=["cat"]).read(0).annotations["boxes"]["classes"].tolist() == []


def test_labels_leaves_out_images_without_them(data_root: Path) -> None:
    """`labels: [class_map]` lists the four images with a mask and reads nothing else."""
    reader = Voc(str(data_root / "VOCdevkit/VOC2012"), labels=["class_map"])
    assert reader.ids == ("2007_000063", "2007_004189", "2007_006449", "2008_002536")
    assert list(reader.read(0).annotations) == ["class_map"]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation><object>", "a.xml: is not an annotation of VOC .*no element found"),
        (thing("unicorn"), "a.xml: is not an annotation of VOC .*'unicorn' is not one of VOC's classes"),
        (thing().replace("xmax", "xmx"), "a.xml: is not an annotation of VOC .*an object without bndbox/xmax"),
        (thing(box=(5, 3, 2, 5)), r"a.xml: box 0 of 1 \(4 2 2 5\) is not x0 y0 x1 y1"),
        (thing(box=(5, 3, 20, 5)), r"a.xml: box 0 of 1 \(4 2 20 5\) is outside the image"),
    ],
)
def test_broken_xml_names_sample_and_file(tmp_path: Path, xml: str, message: str) -> None:
    """XML that ends early, an unknown class, a missing side and impossible boxes are explained."""
    with pytest.raises(DataError, match=f"voc, sample 'a': .*{message}"):
        tiny(tmp_path, xml).read(0)


@pytest.mark.parametrize(
    ("size", "number", "message"),
    [
        ((6, 8), 21, r"a.png: class id 21, but the set declares 21 classes \(0 to 20\)"),
        ((6, 9), 1, r"a.png: class map must have shape \(6, 8\).*got \(6, 9\)"),
    ],
)
def test_impossible_masks_name_sample_and_file(tmp_path: Path, size: tuple[int, int], number: int, message: str) -> None:
    """A class id that the set does not have, and a mask of another size, are explained."""
    (tmp_path / "SegmentationClass").mkdir()
    reader = tiny(tmp_path, thing())
    Image.fromarray(np.full(size, number, dtype=np.uint8)).save(tmp_path / "SegmentationClass/a.png")
    with pytest.raises(DataError, match=f"voc, sample 'a': .*{message}"):
        reader.read(0)


def test_what_is_not_there_is_explained(data_root: Path, tmp_path: Path) -> None:
    """A split without list, a class VOC does not label, and a cut that leaves nothing say so."""
    root = str(data_root / "VOCdevkit/VOC2012")
    with pytest.raises(DataError, match=r"neither .*Main/test.txt nor .*Segmentation/test.txt exists; is 'test' a split"):
        Voc(root, "test")
    with pytest.raises(ConfigError, match="voc, classes: no class 'giraffe'"):
        Voc(root, classes=["giraffe"])
    with pytest.raises(DataError, match=r"voc: .* lists 78 of 78 images, of which take: '80:' and drop: None leave none"):
        Voc(root, take="80:")
    with pytest.raises(ConfigError, match="voc: no label 'depth'; .* has boxes, class_map"):
        Voc(root, labels=["depth"])
