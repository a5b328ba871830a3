"""Another data set together with files of boxes that may hold objects: what Fast R-CNN learns from."""

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.proposed_boxes import ProposedBoxes
from ubertrain.data.blame import blame
from ubertrain.data.reader import Reader
from ubertrain.data.readers import READERS
from ubertrain.data.sample import Sample
from ubertrain.data.selection import folder
from ubertrain.errors import ConfigError, DataError


class WithProposals(Reader):
    """The samples of another data set, whose boxes come with proposals, one file for each image that has the label.

    `proposals/ID.npy`, an array (N, 4), or `proposals/ID.txt`, a line of four numbers per box, where ID is the sample's id (for
    sets of files the name of its image without the extension): x0 y0 x1 y1 in pixels of the image, continuous as in
    `annotation.Boxes`. A fifth column is a score; without it, the best come first. A file may be empty, but not missing.
    Proposals are cut at the border of the image; those that have no area then are left out.

    Args:
        of: the other data set, as it would stand in its place: `{type: voc, root: ...}`.
        proposals: the folder of the files.
        most: at most so many of each image, the best ones.
        label: the label of `of` that the proposals belong to.

    Raises:
        ConfigError: `of` has no type, or no boxes under that label.
        DataError: there is no such folder; and what the other data set raises.
    """

    name = "with_proposals"

    def __init__(self, of: Mapping[str, Any], proposals: str, *, most: int = 2000, label: str = "boxes") -> None:
        keywords = dict(of)
        if not isinstance(kind := keywords.pop("type", None), str):
            raise ConfigError(
                f"with_proposals, of: needs the type of a data set, as in {{type: voc, root: ...}}; got {dict(of)}"
            )
        if most < 1:
            raise ConfigError(f"with_proposals, most: must be at least 1; got {most}")
        self._of = READERS.make(kind, "with_proposals, of", **keywords)
        if not issubclass(self._of.kinds.get(label, Reader), Boxes):
            raise ConfigError(f"with_proposals: {kind!r} carries no boxes under {label!r}, but {', '.join(self._of.kinds)}")
        self._folder = folder(proposals, "a file ID.npy or ID.txt with the proposals of each image")
        self._most, self._label = most, label
        self.kinds = {**self._of.kinds, label: ProposedBoxes}
        self.classes = self._of.classes

    def __len__(self) -> int:
        return len(self._of)

    def only(self, labels: Collection[str]) -> Self:
        """As `Reader.only`."""
        narrowed = copy.copy(self)
        narrowed._of = self._of.only(labels)
        narrowed.kinds = {name: kind for name, kind in self.kinds.items() if name in labels}
        return narrowed

    def read(self, index: int) -> Sample:
        sample = self._of.read(index)
        if self._label not in sample.annotations or self._label not in self.kinds:
            return sample
        size = (sample.image.shape[1], sample.image.shape[2])
        with blame(f"with_proposals, sample {sample.id!r}"):
            value = {**sample.annotations[self._label], "proposals": self._read(sample.id, size)}
        return Sample(sample.id, sample.image, {**sample.annotations, self._label: value}, sample.source)

    def _read(self, sample: str, size: tuple[int, int]) -> Tensor:
        """(N, 4) float32, best first, within the image."""
        files = [self._folder / f"{sample}{suffix}" for suffix in (".npy", ".txt")]
        file = next((file for file in files if file.exists()), None)
        if file is None:
            raise DataError(f"neither {files[0]} nor {files[1].name} exists; an image without any proposal needs an empty file")
        with blame(file):
            table = _table(file)
            if table.shape[1] == 5:
                table = table[np.argsort(-table[:, 4], kind="stable")]
            if wrong := int((~np.isfinite(table)).any(axis=1).sum()):
                raise DataError(f"{wrong} of {len(table)} proposals are not finite")
            corners = table[:, :4].clip(0, (size[1], size[0]) * 2)
            corners = corners[(corners[:, 2:] > corners[:, :2]).all(axis=1)]
            if len(table) and not len(corners):
                raise DataError(f"none of {len(table)} boxes has an area in the image; expected x0 y0 x1 y1 in pixels")
            return torch.from_numpy(corners[: self._most]).float()


def _table(file: Path) -> np.ndarray:
    """The numbers of a file, (N, 4) or (N, 5) float64."""
    try:
        if file.suffix == ".npy":
            table = np.load(file, allow_pickle=False).astype(np.float64)
        else:
            lines = file.read_text(encoding="utf-8").splitlines()
            table = np.array([[float(word) for word in line.replace(",", " ").split()] for line in lines if line.strip()])
    except Exception as error:  # numpy raises anything on damaged bytes; rows of different lengths are a ValueError
        raise DataError(f"cannot be read as a table of numbers ({error or type(error).__name__})") from error
    if table.size == 0:
        return np.zeros((0, 4))
    if table.ndim != 2 or table.shape[1] not in (4, 5):
        raise DataError(f"has the shape {table.shape}; expected columns x0 y0 x1 y1 and, if there are scores, a fifth")
    return table
