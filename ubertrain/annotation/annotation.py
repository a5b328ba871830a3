"""What every kind of annotation must say about itself."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from ubertrain.annotation.warp import Warp


class Annotation(ABC):
    """A kind of label: how it is checked, how it follows a warp, how it is batched and drawn.

    A kind is a namespace of class methods and is never instantiated; its *values* are plain tensors, or dicts of them, so
    that they cross processes and files without ceremony. A value that is absent from a sample means "not labelled"; an empty
    value (no boxes) means "labelled: nothing here". Nothing may turn the first into the second.
    """

    key: ClassVar[str]
    """The name under which a sample carries this kind unless the task says otherwise, e.g. "depth"."""

    @classmethod
    @abstractmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """Raise `DataError` unless `value` is a valid label for an image of `size` = (height, width).

        The message says what is wrong with the value; the reader that calls this adds data set, sample and file.
        """

    @classmethod
    @abstractmethod
    def warp(cls, value: Any, warp: Warp) -> Any:
        """The value that belongs to the warped image. What comes from outside the image is marked as unknown."""

    @classmethod
    @abstractmethod
    def collate(cls, values: list[Any]) -> Any:
        """The values of several images of one size as one pytree whose tensor leaves have one row per image."""

    @classmethod
    @abstractmethod
    def draw(cls, image: np.ndarray, value: Any) -> np.ndarray:
        """The value as a picture, (height, width, 3) uint8, on top of or beside `image` of the same shape."""
