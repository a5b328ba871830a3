"""Directions as weights of three codewords each (Ladicky et al. 2014; Wang, Fouhey and Gupta 2015)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ubertrain.errors import ConfigError

_PIXELS = 1 << 16
"""How many directions are compared with all triangles at a time."""
_FLATTEST = 0.2
"""Triangles whose plane passes the origin nearer than this span more than 78 degrees from their middle."""


@dataclass(frozen=True, eq=False)
class TriangularCode:
    """Codewords on the unit sphere and the Delaunay triangles between them.

    The Delaunay triangles of points on a sphere are the faces of their convex hull. A direction lies over one triangle, and is
    the sum of its corners with three weights, none negative, that sum to 1, up to its length. Codewords of visible surfaces
    leave the back of the sphere open: faces across the opening are no triangles, and a direction that lies over none is coded
    as the nearest one on the rim, roughly.

    Attributes:
        words: (codewords, 3) float64 unit vectors.

    Raises:
        ConfigError: fewer than four codewords, some not of length 1, or all in nearly one plane; scipy is not installed.
    """

    words: NDArray[np.float64]

    def __post_init__(self) -> None:
        fits = self.words.size and self.words.ndim == 2 and self.words.shape[1] == 3
        lengths = np.linalg.norm(self.words, axis=-1) if fits else np.zeros(1)
        if len(self.words) < 4 or not (np.abs(lengths - 1) < 1e-3).all():
            raise ConfigError(
                f"a codebook of normals is a table (codewords, 3) of at least four unit vectors; got {self.words.shape} with "
                f"lengths from {lengths.min():g} to {lengths.max():g}"
            )
        object.__setattr__(self, "words", self.words / lengths[:, None])
        if not len(self.triangles):
            raise ConfigError("the codewords lie too close together, or in one plane: no triangle between them faces outwards")

    @cached_property
    def triangles(self) -> NDArray[np.int64]:
        """(triangles, 3), the codewords at the corners of each."""
        try:
            from scipy.spatial import ConvexHull, QhullError  # an extra: other heads do without
        except ImportError as error:
            raise ConfigError("triangular coding needs scipy; install it with pip install 'ubertrain[mat]'") from error
        try:
            hull = ConvexHull(self.words)
        except QhullError as error:
            raise ConfigError(f"no triangles between the codewords: {str(error).splitlines()[0]}") from error
        outward = hull.equations[:, 3] < -_FLATTEST
        order = np.lexsort(np.sort(hull.simplices[outward], axis=1).T[::-1])  # as qhull lists them is nobody's business
        triangles: NDArray[np.int64] = np.sort(hull.simplices[outward], axis=1)[order].astype(np.int64)
        return triangles

    def encode(self, normals: Tensor) -> tuple[Tensor, Tensor]:
        """The code of each direction.

        Args:
            normals: (rows, 3, height, width) float, of any length; what has none gets some code.

        Returns:
            The three codewords (rows, 3, height, width) int64 and their weights, of the dtype of `normals`.
        """
        rows, _, height, width = normals.shape
        planes, inverses = (normals.new_tensor(table) for table in (self._planes, self._inverses))
        corners = torch.as_tensor(self.triangles, device=normals.device)
        flat = normals.movedim(1, -1).reshape(-1, 3)
        # A ray leaves the hull through the face whose plane it meets first.
        with torch.autocast(flat.device.type, enabled=False):  # in 16 bits the wrong face, and weights off by some percent
            best = torch.cat([(part @ planes.T).argmax(dim=1) for part in flat.split(_PIXELS)])
            weights = torch.einsum("nij,nj->ni", inverses[best], flat).clamp(min=0)
        total = weights.sum(dim=1, keepdim=True)
        weights = torch.where(total > 0, weights / total.clamp(min=1e-12), 1 / 3)
        shape = (rows, height, width, 3)
        return corners[best].view(shape).movedim(-1, 1), weights.view(shape).movedim(-1, 1)

    def decode(self, shares: Tensor) -> Tensor:
        """The direction that non-negative shares of the codewords tell, (rows, 3, height, width) unit vectors.

        The triangle with the largest sum of shares is taken, and its corners are mixed by theirs.

        Args:
            shares: (rows, codewords, height, width), such as probabilities.
        """
        best, most = torch.zeros_like(shares[:, 0], dtype=torch.int64), torch.full_like(shares[:, 0], -1.0)
        for number, (a, b, c) in enumerate(self.triangles.tolist()):
            mass = shares[:, a] + shares[:, b] + shares[:, c]
            better = mass > most
            best, most = torch.where(better, number, best), torch.where(better, mass, most)
        words = shares.new_tensor(self.words)
        corners = torch.as_tensor(self.triangles, device=shares.device)[best].movedim(-1, 1)
        # Should all shares be 0, the middle of the triangle is as good an answer as any.
        weights = shares.gather(1, corners).clamp(min=1e-12)
        with torch.autocast(shares.device.type, enabled=False):
            mixed = torch.einsum("rthw,rthwc->rchw", weights, words[corners])
        return mixed / mixed.square().sum(dim=1, keepdim=True).sqrt()

    @cached_property
    def _planes(self) -> NDArray[np.float64]:
        """(triangles, 3): normal over distance of each face's plane, so that a point p of it has plane @ p = 1."""
        return np.linalg.solve(self.words[self.triangles], np.ones((len(self.triangles), 3, 1)))[..., 0].astype(np.float64)

    @cached_property
    def _inverses(self) -> NDArray[np.float64]:
        """(triangles, 3, 3): what takes a direction to its weights of the corners."""
        return np.linalg.inv(self.words[self.triangles].transpose(0, 2, 1)).astype(np.float64)
