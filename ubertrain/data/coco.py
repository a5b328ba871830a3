"""COCO 2017: objects with boxes, and a class for every pixel (Lin et al., ECCV 2014; Kirillov et al., CVPR 2019)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.class_map import ClassMap
from ubertrain.data.blame import blame
from ubertrain.data.box_values import box_value
from ubertrain.data.class_names import group, pick
from ubertrain.data.coco_json import CocoFile, read_instances, read_panoptic
from ubertrain.data.files import FileReader
from ubertrain.data.images import read_ids, read_image
from ubertrain.data.selection import folder
from ubertrain.errors import ConfigError, DataError

_Wanted = Sequence[str] | Mapping[str, Sequence[str]]


class Coco(FileReader):
    """`root/SPLIT/ID.jpg` with COCO's JSON files in `root/annotations`; labels "boxes" and "class_map".

    Boxes come from `instances_SPLIT.json`, or where that is missing from the things of `panoptic_SPLIT.json`. Crowds are
    ignored boxes; an image without objects is labelled, with no boxes. Class maps come from `root/semantic_SPLIT/ID.png`
    (category ids), or where that is missing from `annotations/panoptic_SPLIT/ID.png`.

    Args:
        root: the folder of COCO.
        split: "train2017", "val2017".
        classes: the classes of boxes, in the order of their ids; others are left out, which is exact since COCO labels all of
            its 80 classes everywhere. Default: all 80.
        class_map: the classes of pixels, in the order of their ids: a list of COCO's names, or `{new name: [COCO's names]}`.
            Default: all 133.
        rest: what becomes of pixels of other categories: "ignore", or the name of a class, which comes first unless
            `class_map` has it.
        labels, take, drop: see `FileReader`.
    """

    name = "coco"

    def __init__(
        self,
        root: str,
        split: str = "train2017",
        *,
        classes: Sequence[str] | None = None,
        class_map: _Wanted | None = None,
        rest: str = "ignore",
        labels: Sequence[str] | None = None,
        take: str = ":",
        drop: str | None = None,
    ) -> None:
        top = folder(root, "the folders of COCO: train2017, val2017, annotations")
        self._images = folder(top / split, "the JPEG images of COCO")
        instances, panoptic = (top / "annotations" / f"{kind}_{split}.json" for kind in ("instances", "panoptic"))
        segments = read_panoptic(panoptic) if panoptic.exists() else None
        objects = read_instances(instances) if instances.exists() else segments
        if objects is None:
            raise DataError(f"coco: neither {instances} nor {panoptic} exists")
        if segments is None and class_map is not None:
            raise ConfigError(f"coco, class_map: there is no {panoptic} to take it from")
        things = [name for category, name in objects.names.items() if category in objects.things]
        wanted = pick(things if classes is None else classes, things, "coco, classes")
        self._objects = objects
        self._box_ids = {category: wanted.index(name) for category, name in objects.names.items() if name in wanted}
        self.kinds, self.classes = {"boxes": Boxes}, {"boxes": wanted}
        if segments is not None:
            self._pixels = _Pixels(segments, top / f"semantic_{split}", class_map, rest)
            self.kinds, self.classes = self.kinds | {"class_map": ClassMap}, self.classes | {"class_map": self._pixels.classes}
        listed = set(objects.images) | set(segments.images if segments is not None else ())
        self.choose(sorted(listed), labels=labels, take=take, drop=drop, where=self._images)

    def image_file(self, sample: str) -> Path:
        return self._images / f"{sample}.jpg"

    def label_file(self, label: str, sample: str) -> Path | None:
        if label == "class_map":
            return self._pixels.file(sample)
        return self._objects.path if self._objects.labels(sample) else None

    def load(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Any:
        if label == "class_map":
            return self._pixels.read(sample, file)
        with blame(file):
            return self._boxes(sample, size)

    def _boxes(self, sample: str, size: tuple[int, int]) -> dict[str, Tensor]:
        regions = self._objects.of(sample)
        kept = np.isin(regions.categories, list(self._box_ids))
        classes = [self._box_ids[category] for category in regions.categories[kept].tolist()]
        corners, crowd = regions.corners[kept], regions.crowd[kept].astype(bool)
        flat = corners[:, 2:] == corners[:, :2]  # a few of COCO's boxes have no width or height, some on the border
        corners[:, :2] -= 0.5 * flat
        corners[:, 2:] += 0.5 * flat
        return box_value(corners.tolist(), classes, (crowd | flat.any(axis=1)).tolist(), size)


class _Pixels:
    """The class of every pixel, from PNGs of category ids or of panoptic segments."""

    def __init__(self, segments: CocoFile, ready: Path, wanted: _Wanted | None, rest: str) -> None:
        """Read maps from the folder `ready` if it exists, else from panoptic segments; `wanted` and `rest` as for `group`."""
        self._segments, self._ready = segments, ready.is_dir()
        self._folder = ready if self._ready else segments.path.with_suffix("")
        known = list(segments.names.values())
        self.classes, ids = group(known if wanted is None else wanted, known, rest, "coco, class_map")
        self._ids = torch.full((1 + max(segments.names, default=0),), -1)
        self._ids[0] = ClassMap.unknown  # COCO's word for unlabelled
        for category, name in segments.names.items():
            self._ids[category] = ids[name]

    def file(self, sample: str) -> Path | None:
        file = self._folder / f"{sample}.png"
        return file if file.exists() and (self._ready or self._segments.labels(sample)) else None

    def read(self, sample: str, file: Path) -> Tensor:
        categories = read_ids(file) if self._ready else self._categories(sample, file)
        ids = self._ids[categories.clamp(max=len(self._ids) - 1)]
        unknown = categories[(ids < 0) | (categories >= len(self._ids))]
        if unknown.numel():
            raise DataError(f"{file}: category id {int(unknown[0])} is not among those of {self._segments.path}")
        return ids

    def _categories(self, sample: str, file: Path) -> Tensor:
        """COCO's category ids from a PNG of segment ids, red + 256 green + 65536 blue."""
        red, green, blue = read_image(file).long()
        ids, inverse = torch.unique(red + 256 * green + 65536 * blue, return_inverse=True)
        regions = self._segments.of(sample)
        category = {0: 0} | dict(zip(regions.segments.tolist(), regions.categories.tolist(), strict=True))
        if missing := set(ids.tolist()) - set(category):
            raise DataError(f"{file}: segment {min(missing)} has no entry in {self._segments.path}")
        return torch.tensor([category[segment] for segment in ids.tolist()])[inverse]
