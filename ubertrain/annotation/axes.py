"""Which way the three numbers of a stored normal point."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ubertrain.errors import ConfigError

_DIRECTIONS = {"right": (0, 1), "left": (0, -1), "down": (1, 1), "up": (1, -1), "forward": (2, 1), "back": (2, -1)}


@dataclass(frozen=True)
class Axes:
    """The convention by which a data set stores normals, declared once and converted once, when a file is read.

    Normals have x right, y down, z forward (away from the viewer) everywhere in ubertrain: "right down forward". A surface that
    is seen has z < 0 then. Sets differ: OpenGL's "right up back" (also of most pictures of normals), or NYUv2 in the release of
    multi-task RefineNet, whose channels hold "right forward up".

    Attributes:
        order: where x, y and z stand among the stored numbers.
        signs: what they are multiplied by.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    signs: tuple[int, int, int] = (1, 1, 1)

    @classmethod
    def parse(cls, text: str) -> "Axes":
        """The convention in words: the direction in which each stored number grows, in their order.

        Raises:
            ConfigError: not three words, or two along one axis.
        """
        words = text.split()
        known = [_DIRECTIONS[word] for word in words if word in _DIRECTIONS]
        places = {axis: (place, sign) for place, (axis, sign) in enumerate(known)}
        if len(words) != 3 or len(known) != 3 or len(places) != 3:
            raise ConfigError(
                "axes of normals are three words, one of right and left, one of down and up, one of forward and back, in the "
                f'order in which they are stored, such as "right down forward"; given is {text!r}'
            )
        (x, right), (y, down), (z, forward) = (places[axis] for axis in range(3))
        return cls((x, y, z), (right, down, forward))

    def converted(self, stored: Tensor) -> Tensor:
        """Stored vectors (3, height, width) with x right, y down, z forward."""
        return stored[list(self.order)] * torch.tensor(self.signs, dtype=stored.dtype, device=stored.device).view(3, 1, 1)
