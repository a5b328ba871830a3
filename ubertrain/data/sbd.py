"""SBD: the boundaries of objects, by class (Hariharan et al., ICCV 2011)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.semantic_edges import SemanticEdges
from ubertrain.data.blame import blame
from ubertrain.data.files import FileReader
from ubertrain.data.mat import read_mat
from ubertrain.data.selection import folder
from ubertrain.data.voc import CLASSES
from ubertrain.errors import DataError


class Sbd(FileReader):
    """`root/img/ID.jpg` with `root/cls/ID.mat` and `root/inst/ID.mat`; labels "semantic_edges" and "class_map", VOC's classes.

    `root` is `benchmark_RELEASE/dataset`. The images are those that `root/SPLIT.txt` lists. Needs scipy
    (`pip install 'ubertrain[mat]'`).

    Args:
        root: the folder.
        split: "train" or "val", the name of a list in `root`.
        instances: whether boundaries between two objects of one class count as well; SBD's own benchmark has those between
            classes only.
        labels, take, drop: see `FileReader`.
    """

    name = "sbd"
    needs: ClassVar[tuple[str, ...]] = ("scipy",)

    def __init__(self, root: str, split: str = "train", *, instances: bool = False, labels: Sequence[str] | None = None,
                 take: str = ":", drop: str | None = None) -> None:  # fmt: skip
        self._root = folder(root, "the folders of SBD's release: img, cls, inst")
        self._instances = instances
        self.kinds = {"semantic_edges": SemanticEdges, "class_map": ClassMap}
        self.classes = {"semantic_edges": CLASSES, "class_map": ("background", *CLASSES)}
        self.choose(_listed(self._root / f"{split}.txt"), labels=labels, take=take, drop=drop, where=self._root)

    def image_file(self, sample: str) -> Path:
        return self._root / "img" / f"{sample}.jpg"

    def label_file(self, label: str, sample: str) -> Path | None:
        file = self._root / "cls" / f"{sample}.mat"
        return file if file.exists() else None

    def load(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Any:
        if label == "class_map":
            return torch.from_numpy(_field(read_mat(file, "GTcls"), "Segmentation", file).astype(np.int64))
        return read_semantic_edges(file, self._root / "inst" / f"{sample}.mat" if self._instances else None)


def read_semantic_edges(file: Path, instances: Path | None = None) -> Tensor:
    """The boundaries in a file of SBD's `cls`, (20, height, width) uint8 of 0, 1 = boundary, 2 = inside, see `SemanticEdges`.

    Args:
        file: one of `cls`.
        instances: the one of `inst` about the same image, to have the boundaries of each object; None: of each class.

    Raises:
        DataError: a file is missing, damaged, or of another form; names it.
        ConfigError: scipy is not installed.
    """
    truth = read_mat(file, "GTcls")
    segments = _field(truth, "Segmentation", file)
    planes = np.where(segments == np.arange(1, len(CLASSES) + 1)[:, None, None], SemanticEdges.inside, 0).astype(np.uint8)
    drawn = _field(truth, "Boundaries", file).ravel()
    with blame(file):
        if len(drawn) != len(CLASSES):
            raise DataError(f"has boundaries of {len(drawn)} classes; SBD has {len(CLASSES)}")
        _draw(planes, drawn, range(len(CLASSES)))
    if instances is not None:
        objects = read_mat(instances, "GTinst")
        kinds = _field(objects, "Categories", instances).ravel().astype(int) - 1
        with blame(instances):
            if len(kinds) and not 0 <= kinds.min() <= kinds.max() < len(CLASSES):
                raise DataError(f"has objects of classes {1 + kinds.min()} to {1 + kinds.max()}; SBD has {len(CLASSES)}")
            _draw(planes, _field(objects, "Boundaries", instances).ravel(), kinds)
    return torch.from_numpy(planes)


def _draw(planes: np.ndarray, drawn: np.ndarray, kinds: Sequence[int] | np.ndarray) -> None:
    """Write sparse maps of boundaries into the planes of their classes."""
    for boundary, kind in zip(drawn, kinds, strict=True):
        if boundary.shape != planes.shape[1:]:
            raise DataError(f"a boundary has shape {boundary.shape}, its segmentation {planes.shape[1:]}")
        planes[kind][boundary.toarray() > 0] = SemanticEdges.boundary


def _field(struct: np.ndarray, name: str, file: Path) -> np.ndarray:
    """A field of a struct as scipy reads it."""
    with blame(file):
        try:
            return np.asarray(struct[name][0, 0])
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"is not one of SBD's: it has no {name}") from error


def _listed(file: Path) -> list[str]:
    if not file.is_file():
        raise DataError(f"sbd: there is no list {file}; is {file.stem!r} a split of this folder?")
    return [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
