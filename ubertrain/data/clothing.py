"""Clothing Co-Parsing: street photographs with the piece of clothing at every pixel (Yang, Luo and Lin, CVPR 2014)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.parts import Parts
from ubertrain.data.blame import blame
from ubertrain.data.class_names import group
from ubertrain.data.files import FileReader
from ubertrain.data.mat import read_mat
from ubertrain.data.selection import folder
from ubertrain.errors import DataError

BACKGROUND = "background"
"""What the set calls "null", which YAML would read as nothing."""


class ClothingCoParsing(FileReader):
    """`root/photos/ID.jpg` with `root/annotations/pixel-level/ID.mat` and `root/label_list.mat`; label "parts".

    The set names 59 classes, background, hair and skin among them, none of them left or right. Photographs without a .mat carry
    no label. Needs scipy (`pip install 'ubertrain[mat]'`).

    Args:
        root: the folder of the set, which has no parts for training and validation; divide it with `drop` and `take`.
        class_map: the classes of pixels, in the order of their ids: a list of the set's names, or `{new name: [the set's]}`.
            Default: all 59, background first.
        rest: what becomes of pixels of other classes: "ignore", or the name of a class, which comes first unless `class_map`
            has it.
        labels, take, drop: see `FileReader`.
    """

    name = "clothing_co_parsing"
    needs: ClassVar[tuple[str, ...]] = ("scipy",)

    def __init__(
        self,
        root: str,
        *,
        class_map: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        rest: str = "ignore",
        labels: Sequence[str] | None = None,
        take: str = ":",
        drop: str | None = None,
    ) -> None:
        top = folder(root, "the folders photos and annotations and the file label_list.mat")
        self._photos = folder(top / "photos", "the JPEG images of Clothing Co-Parsing")
        self._truth, self._list = top / "annotations" / "pixel-level", top / "label_list.mat"
        known = _names(self._list)
        classes, ids = group(known if class_map is None else class_map, known, rest, f"{self.name}, class_map")
        self._ids = torch.tensor([ids[name] for name in known])
        self.kinds, self.classes = {"parts": Parts}, {"parts": classes}
        photos = sorted(path.stem for path in self._photos.glob("*.jpg"))
        self.choose(photos, labels=labels, take=take, drop=drop, where=self._photos)

    def image_file(self, sample: str) -> Path:
        return self._photos / f"{sample}.jpg"

    def label_file(self, label: str, sample: str) -> Path | None:
        file = self._truth / f"{sample}.mat"
        return file if file.exists() else None

    def load(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Tensor:
        stored: Any = read_mat(file, "groundtruth")
        with blame(file):
            if not (isinstance(stored, np.ndarray) and stored.ndim == 2 and np.issubdtype(stored.dtype, np.integer)):
                raise DataError("its groundtruth is not a table of whole numbers, one per pixel")
            ids = torch.from_numpy(stored.astype(np.int64))
            if ids.numel() and not 0 <= int(ids.min()) <= (most := int(ids.max())) < len(self._ids):
                raise DataError(f"has class ids from {int(ids.min())} to {most}; {self._list} names {len(self._ids)}")
            return self._ids[ids]


def _names(file: Path) -> list[str]:
    """The names of the classes in the order of their ids."""
    stored = read_mat(file, "label_list")
    with blame(file):
        try:
            names = [str(cell[0]) for cell in np.asarray(stored).ravel()]
        except (IndexError, TypeError) as error:
            raise DataError("its label_list is not a row of names") from error
        if not 1 <= len(set(names)) == len(names) < ClassMap.unknown:
            raise DataError(f"its label_list has {len(names)} names, {len(set(names))} of them different")
    return [BACKGROUND if name == "null" else name for name in names]
