"""PASCAL VOC: objects with boxes, and a class for every pixel of some images (Everingham et al., IJCV 2010)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.class_map import ClassMap
from ubertrain.data.box_values import box_value
from ubertrain.data.class_names import pick
from ubertrain.data.files import FileReader
from ubertrain.data.images import read_ids
from ubertrain.data.selection import folder
from ubertrain.data.voc_xml import read_things
from ubertrain.errors import DataError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's own names, in the order of the ids in its masks, where 0 is background."""

IN_COCO = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""VOC's name -> COCO's, where they differ."""

_KINDS: Mapping[str, type[Annotation]] = {"boxes": Boxes, "class_map": ClassMap}
_PLACES = {"boxes": ("Annotations", ".xml"), "class_map": ("SegmentationClass", ".png")}
"""Label -> folder and suffix of its files."""


class Voc(FileReader):
    """`root/JPEGImages/ID.jpg`, `root/Annotations/ID.xml`, `root/SegmentationClass/ID.png`; labels "boxes" and "class_map".

    The images are those that `ImageSets/Main/SPLIT.txt` and `ImageSets/Segmentation/SPLIT.txt` list. An image without XML has
    no boxes label, one without a mask no class map. Boxes count pixels from 1, which is undone; difficult objects are ignored
    boxes. In masks 255 is unknown.

    Args:
        root: the folder of one year, e.g. VOCdevkit/VOC2012.
        split: "train", "val", "trainval".
        names: "voc", or "coco" to call the classes as COCO does, so that both can feed one task.
        classes: the classes of boxes, in the order of their ids; others are left out, which is exact since VOC labels all of
            its 20 classes everywhere. Default: all 20.
        labels, take, drop: see `FileReader`.
    """

    name = "voc"

    def __init__(
        self,
        root: str,
        split: str = "trainval",
        *,
        names: Literal["voc", "coco"] = "voc",
        classes: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        take: str = ":",
        drop: str | None = None,
    ) -> None:
        self._root = folder(root, "the folders of one year of VOC: JPEGImages, Annotations, ImageSets")
        self._known = tuple(IN_COCO.get(name, name) for name in CLASSES) if names == "coco" else CLASSES
        wanted = pick(self._known if classes is None else classes, self._known, "voc, classes")
        self.kinds = {label: kind for label, kind in _KINDS.items() if (self._root / _PLACES[label][0]).is_dir()}
        self.classes = {"boxes": wanted, "class_map": ("background", *self._known)}
        self.choose(_listed(self._root / "ImageSets", split), labels=labels, take=take, drop=drop, where=self._root)

    def image_file(self, sample: str) -> Path:
        return self._root / "JPEGImages" / f"{sample}.jpg"

    def label_file(self, label: str, sample: str) -> Path | None:
        place, suffix = _PLACES[label]
        file = self._root / place / f"{sample}{suffix}"
        return file if file.exists() else None

    def load(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Any:
        return self._boxes(file, size) if label == "boxes" else read_ids(file)

    def _boxes(self, file: Path, size: tuple[int, int]) -> dict[str, Tensor]:
        corners, classes, ignore = [], [], []
        for thing in read_things(file):
            if thing.name not in CLASSES:
                raise DataError(f"{file}: is not an annotation of VOC ({thing.name!r} is not one of VOC's classes)")
            name = self._known[CLASSES.index(thing.name)]
            if name in self.classes["boxes"]:
                x0, y0, x1, y1 = thing.corners
                corners.append((x0 - 1, y0 - 1, x1, y1))  # 1-based and inclusive: the far border stays
                classes.append(self.classes["boxes"].index(name))
                ignore.append(thing.difficult)
        return box_value(corners, classes, ignore, size)


def _listed(lists: Path, split: str) -> list[str]:
    files = [lists / kind / f"{split}.txt" for kind in ("Main", "Segmentation")]
    if not any(file.exists() for file in files):
        raise DataError(f"voc: neither {files[0]} nor {files[1]} exists; is {split!r} a split of this folder?")
    lines = [line for file in files if file.exists() for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted({line.split()[0] for line in lines if line.strip()})
