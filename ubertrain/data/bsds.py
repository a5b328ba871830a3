"""BSDS500: object boundaries drawn by several people (Arbelaez et al., PAMI 2011)."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.edges import Edges
from ubertrain.data.blame import blame
from ubertrain.data.files import FileReader
from ubertrain.data.mat import read_mat
from ubertrain.data.selection import folder
from ubertrain.errors import DataError


class BSDS500(FileReader):
    """`root/data/images/SPLIT/ID.jpg` with `root/data/groundTruth/SPLIT/ID.mat`; label "edges", a plane per annotator.

    Needs scipy (`pip install 'ubertrain[mat]'`).
    """

    name = "bsds500"
    needs: ClassVar[tuple[str, ...]] = ("scipy",)

    def __init__(self, root: str, split: str = "train", *, labels: Sequence[str] | None = None, take: str = ":",
                 drop: str | None = None) -> None:  # fmt: skip
        self._images = folder(Path(root) / "data" / "images" / split, "the JPEG images of BSDS500")
        self._truth = self._images.parent.parent / "groundTruth" / split
        self.kinds = {"edges": Edges}
        ids = sorted(path.stem for path in self._images.glob("*.jpg"))
        self.choose(ids, labels=labels, take=take, drop=drop, where=self._images)

    def image_file(self, sample: str) -> Path:
        return self._images / f"{sample}.jpg"

    def label_file(self, label: str, sample: str) -> Path | None:
        file = self._truth / f"{sample}.mat"
        return file if file.exists() else None

    def load(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Tensor:
        return read_drawings(file)


def read_drawings(file: Path) -> Tensor:
    """The annotators' boundaries in a file of BSDS500's ground truth, (annotators, height, width) uint8 of 0 and 1.

    Raises:
        DataError: the file is missing, damaged, or of another form; names it.
        ConfigError: scipy is not installed.
    """
    cells = read_mat(file, "groundTruth")
    with blame(file):
        try:
            planes = [np.asarray(cells[0, k]["Boundaries"][0, 0]) for k in range(cells.shape[1])]
            return torch.from_numpy(np.stack(planes).astype(np.uint8))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise DataError("its groundTruth is not a row of structs with Boundaries of one size, as in BSDS500") from error
