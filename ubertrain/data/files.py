"""What the data sets on disk share: listing, choosing, reading and checking samples that are files."""

import copy
from abc import abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from ubertrain.data.blame import blame
from ubertrain.data.class_ids import check_ids
from ubertrain.data.images import read_image
from ubertrain.data.reader import Reader
from ubertrain.data.sample import Sample
from ubertrain.data.selection import select
from ubertrain.errors import ConfigError, DataError


class FileReader(Reader):
    """A data set whose samples are one image file each and, for every label a sample has, the file that holds it.

    Three keywords mean the same in every such data set:

    - `labels`: the labels to read, e.g. `[boxes]`; samples that have none of them are left out. Default: all labels and all
      samples.
    - `drop`, `take`: parts of what is then listed, as Python ranges ("60:", "::5"). `drop` goes first, so that `drop: "::5"`
      for training and `take: "::5"` for validation divide a list.
    """

    name: ClassVar[str]
    """What error messages call this kind of data set."""
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def image_file(self, sample: str) -> Path:
        """The image of the sample with this id; not yet known to exist."""

    @abstractmethod
    def label_file(self, label: str, sample: str) -> Path | None:
        """The file that holds this label, or None where the sample does not carry it; nothing is read."""

    @abstractmethod
    def load(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Any:
        """The value of this label for an image of `size` = (height, width), not yet checked."""

    def choose(self, ids: Sequence[str], *, labels: Collection[str] | None, take: str, drop: str | None, where: Path) -> None:
        """Set `ids` and cut `kinds` to what the three common keywords ask for.

        Raises:
            ConfigError: a label that this set does not have, or a range that is none.
            DataError: nothing is left; names the folder `where`.
        """
        self.ids = tuple(ids)
        if labels is not None:
            if unknown := set(labels) - set(self.kinds):
                raise ConfigError(f"{self.name}: no label {min(unknown)!r}; {where} has {', '.join(self.kinds) or 'no labels'}")
            self._keep_kinds(labels)
            self.ids = tuple(sample for sample in ids if any(self.label_file(label, sample) for label in self.kinds))
        listed, self.ids = len(self.ids), select(self.ids, take, drop)
        if not self.ids:
            with_labels = f" with {' or '.join(self.kinds)}" if labels is not None else ""
            cut = f", of which take: {take!r} and drop: {drop!r} leave none" if listed else ""
            raise DataError(f"{self.name}: {where} lists {listed} of {len(ids)} images{with_labels}{cut}")

    def only(self, labels: Collection[str]) -> Self:
        """As `Reader.only`: other labels are not even decoded."""
        narrowed = copy.copy(self)
        narrowed._keep_kinds(labels)
        return narrowed

    def read(self, index: int) -> Sample:
        sample = self.ids[index]
        try:
            return self._read(sample)
        except DataError as error:
            raise DataError(
                f"{self.name}, sample {sample!r}: {error}; mend it, or leave such samples out with on_error: skip"
            ) from error

    def _keep_kinds(self, labels: Collection[str]) -> None:
        self.kinds = {label: kind for label, kind in self.kinds.items() if label in labels}

    def _read(self, sample: str) -> Sample:
        source = self.image_file(sample)
        image = read_image(source)
        size = (image.shape[1], image.shape[2])
        annotations = {}
        for label in self.kinds:
            if (file := self.label_file(label, sample)) is not None:
                annotations[label] = self._checked(label, sample, file, size)
        return Sample(sample, image, annotations, str(source))

    def _checked(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Any:
        value = self.load(label, sample, file, size)
        with blame(file):
            self.kinds[label].check(value, size)
            if label in self.classes:
                check_ids(self.kinds[label], value, len(self.classes[label]), "the set declares")
        return value
