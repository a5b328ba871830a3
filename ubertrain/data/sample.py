"""One image and what is known about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """An image with the annotations it has, and no others.

    Attributes:
        id: unique within its data set; what error messages name.
        image: (3, height, width) uint8, RGB.
        annotations: label name -> value of that annotation kind. A name that is absent is not labelled.
        source: the image file, or another word on where the sample comes from.
    """

    id: str
    image: Tensor
    annotations: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
