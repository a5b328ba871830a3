"""What every data set reader must say about itself."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from ubertrain.annotation.annotation import Annotation
from ubertrain.data.sample import Sample


class Reader(ABC):
    """A data set on disk (or rendered), read one sample at a time.

    The keywords of `__init__` are the keys the data set accepts in YAML. Construction reads lists, not images, and raises
    `DataError` for a missing folder or an empty set. Readers are picklable, so that worker processes can have them.
    """

    kinds: Mapping[str, type[Annotation]]
    """Label name -> kind, for every label that some of the samples may carry."""
    classes: Mapping[str, Sequence[str]] = {}
    """Label name -> class names in the order of their ids, for labels that have classes."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Packages outside the core that this reader imports, e.g. ("scipy",)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Sample:
        """The sample at `index`, checked.

        Raises:
            DataError: naming the file and what is wrong with it.
        """

    def only(self, labels: Collection[str]) -> "Reader":
        """This data set with at most `labels` read, the same samples in the same order.

        Override it where a label that is left out need not be decoded; the samples may carry more than was asked for.
        """
        return self
