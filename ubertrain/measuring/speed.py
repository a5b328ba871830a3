"""How fast a device is, in the figures that a roofline needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """What a device reaches.

    Attributes:
        flops: dtype ("float32", "bfloat16", "float16"), or "tf32", -> FLOP/s of its matrix products; what is not there runs at
            the rate of "float32", which must be.
        bytes_per_second: read and written, together.
        overhead: seconds of an operation on next to nothing.
    """

    flops: Mapping[str, float]
    bytes_per_second: float
    overhead: float
