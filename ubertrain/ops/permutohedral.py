"""Gaussian filtering of values at scattered points of a space of several dimensions, in time and memory linear in the points.

The permutohedral lattice (Adams, Baek, Davis 2010) tiles the space with simplices whose corners are the lattice's points. A
value is spread over the d + 1 corners of the simplex around it (splat, S), the lattice is blurred along each of its d + 1
directions by 1/2, 1, 1/2 (B_0 .. B_d), and the result is read off at the same corners with the same weights (slice, S^T):

    K = S^T B_d ... B_1 B_0 S  ~  exp(-|f_i - f_j|^2 / 2) for all pairs of points i and j

All three are sparse matrices. They are constants of the features: gradients with respect to values pass through
K^T = S^T B_0 ... B_d S, and no gradient reaches the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ubertrain.errors import UbertrainError
from ubertrain.ops.bags import Bags

_LARGEST_KEY = 2**62


@dataclass(frozen=True)
class Lattice:
    """The filter K of some points.

    Attributes:
        splat: (lattice points, points).
        blurs: per direction (lattice points, lattice points), each symmetric. Only lattice points that some point touches
            exist; the others hold nothing.
        read: (points, lattice points), the transpose of `splat`.
    """

    splat: Bags
    blurs: tuple[Bags, ...]
    read: Bags

    def filter(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """`K @ values`, or `K.T @ values`, for `values` (points, channels) of the features' dtype.

        The lattice never holds more numbers than `values`: where it has more points, channels take turns.
        """
        points, channels = values.shape
        at_once = max(1, channels * points // max(len(self.splat.starts), 1))
        if at_once < channels:
            return torch.cat([self.filter(part, transposed=transposed) for part in values.split(at_once, dim=1)], dim=1)
        held = self.splat @ values
        for blur in reversed(self.blurs) if transposed else self.blurs:
            held = blur @ held
        return self.read @ held

    def scaled(self, factors: Tensor) -> Lattice:
        """The filter `diag(factors) K diag(factors)`, for `factors` (points,)."""
        corners = len(self.read.columns) // len(factors)
        return Lattice(
            self.splat._replace(weights=self.splat.weights * factors[self.splat.columns]),
            self.blurs,
            self.read._replace(weights=self.read.weights * factors.repeat_interleave(corners)),
        )


def lattice(features: Tensor) -> Lattice:
    """The filter of `features`, in which distance 1 is one standard deviation of the Gaussian.

    Args:
        features: (rows, points, d) float32 or float64. The rows (images) do not see each other.

    Returns:
        The filter of all rows * points points, row by row.

    Raises:
        UbertrainError: the features spread over more lattice points than 62 bits can number.
    """
    rows, points, d = features.shape
    with torch.no_grad():
        origin, rank, weights = _simplices(features.detach().flatten(0, 1))
        keys, steps = _numbered(origin, rank, rows)
        del origin, rank
        order, read, starts, existing = _distinct(keys)
        del keys
        blurs = tuple(_blur(existing, step, weights.dtype) for step in steps)
        corner_starts = torch.arange(0, len(read), d + 1, dtype=torch.int32, device=read.device)
        weights = weights.flatten().mul_(_gain(d) ** 0.5)
        splat = Bags((order // (d + 1)).int(), weights[order], starts)
        return Lattice(splat, blurs, Bags(read, weights, corner_starts))


def _gain(d: int) -> float:
    """What splat, blur and slice must be multiplied by to have the integral of exp(-|f|^2 / 2).

    The blurs multiply a constant by 2^(d + 1), and a lattice point stands for the volume sqrt(d + 1)^-1 (3/2)^(d/2).
    """
    return (2 * math.pi / 1.5) ** (d / 2) * (d + 1) ** 0.5 / 2 ** (d + 1)


def _elevated(features: Tensor) -> Tensor:
    """The features (N, d) on the plane of R^(d+1) whose coordinates sum to 0, in units in which the blur has variance 1.

    Columns of the basis are orthogonal (Adams et al., section 3.1); the scale (d + 1) sqrt(2/3) makes splat, blur and slice
    together a Gaussian of standard deviation 1 in feature space.
    """
    d = features.shape[1]
    order = torch.arange(1, d + 1, dtype=features.dtype, device=features.device)
    scaled = features * ((d + 1) * (2 / 3) ** 0.5 / (order * (order + 1)).sqrt())
    elevated = features.new_zeros(len(features), d + 1)
    elevated[:, 1:] -= scaled * order
    for axis in range(d):
        elevated[:, : axis + 1] += scaled[:, axis : axis + 1]
    return elevated


def _simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around every point (N, d).

    Returns:
        origin: (N, d + 1) its corner of remainder 0, divided by d + 1.
        rank: (N, d + 1) int64, each coordinate's place when the offsets from it are in descending order.
        weights: (N, d + 1) barycentric weights, corner of remainder 0 first.
    """
    at = _elevated(features) / (features.shape[1] + 1)
    d = features.shape[1]
    origin = at.round()
    surplus = origin.sum(dim=1, keepdim=True)
    order = (at - origin).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(d + 1, device=order.device).expand_as(order))
    # Rounding may leave the plane. The coordinates that were rounded the most in the wrong direction are rounded back.
    rank += surplus.long()
    wrap = (rank < 0).long() - (rank > d).long()
    rank += wrap * (d + 1)
    origin += wrap
    offset = torch.empty_like(at).scatter_(1, rank, at - origin)
    weights = torch.empty_like(at)
    weights[:, 0] = 1 + offset[:, d] - offset[:, 0]
    weights[:, 1:] = (offset[:, :d] - offset[:, 1:]).flip(1)
    return origin, rank, weights


def _numbered(origin: Tensor, rank: Tensor, rows: int) -> tuple[Tensor, list[int]]:
    """A number for every corner, the same for the same lattice point of the same row.

    The coordinates of a lattice point are the digits of its number, so that neighbours in one direction are a constant apart.
    (The last coordinate follows from the others.)

    Returns:
        numbers: (N, d + 1) int64.
        steps: what to add to come to the next lattice point in each of the d + 1 directions.
    """
    count, corners = origin.shape
    d = corners - 1
    low, high = torch.aminmax(origin[:, :d], dim=0) if count else (origin.new_zeros(d), origin.new_zeros(d))
    # Corner r is at (d+1) * origin + r, less d + 1 where rank > d - r; a neighbour at most d + 1 beyond.
    bases = [int(base) for base in (corners * (high - low + 5)).tolist()]
    places = [1]
    for base in reversed(bases):
        places.append(places[-1] * base)
    *digits, size = places[::-1][1:] + [places[-1]]
    if rows * size > _LARGEST_KEY:
        raise UbertrainError(
            f"cannot number the lattice points: expected at most 2^62 of them, got {rows} images of {float(size):.2g}; "
            "use wider kernels or smaller images, or fewer images at a time"
        )
    place = origin.new_tensor(digits, dtype=torch.long)
    numbers = ((origin[:, :d] - low + 2).long() * corners * place).sum(dim=1)
    numbers += torch.arange(rows, device=origin.device).repeat_interleave(count // max(rows, 1)) * size
    # In order of rank, what each coordinate takes off once it has wrapped.
    less = torch.cat([place, place.new_zeros(1)]).mul_(corners).expand(count, -1)
    less = torch.empty_like(rank).scatter_(1, rank, less).flip(1).cumsum_(1)
    ahead = sum(digits)
    result = torch.empty_like(rank)
    result[:, 0] = numbers
    result[:, 1:] = numbers[:, None] - less[:, :d]
    result += torch.arange(corners, device=rank.device) * ahead
    return result, [ahead - corners * digit for digit in digits] + [ahead]


def _distinct(keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The different ones among `keys` (N, d + 1).

    Returns:
        order: (N * (d + 1),) int64, the entries in order of their keys.
        place: (N * (d + 1),) int32, the index of every entry's key among the different ones.
        starts: (M,) int32, where in `order` each of them begins.
        existing: (M,) int64, the different keys, ascending.
    """
    ordered, order = keys.flatten().sort(stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    starts = new.nonzero().flatten()
    place = torch.empty(len(order), dtype=torch.int32, device=order.device)
    place[order] = new.cumsum(0, dtype=torch.int32) - 1
    return order, place, starts.int(), ordered[starts]


def _blur(existing: Tensor, step: int, dtype: torch.dtype) -> Bags:
    """1/2, 1, 1/2 over the lattice points one step before, at, and one step after, as far as they exist."""
    wanted = existing + step
    after = torch.searchsorted(existing, wanted, out_int32=True).clamp_(max=len(existing) - 1)
    found = existing[after] == wanted
    del wanted
    here = found.nonzero().squeeze(1)
    there = after[here]
    counts = found.int() + 1
    counts[there] += 1
    starts = counts.cumsum(0, dtype=torch.int32).sub_(counts)
    columns = torch.empty(len(existing) + 2 * len(here), dtype=torch.int32, device=existing.device)
    weights = torch.full_like(columns, 0.5, dtype=dtype)
    # Each bag: the point itself, the one after it, the one before it.
    columns[starts] = torch.arange(len(existing), dtype=torch.int32, device=existing.device)
    weights[starts] = 1.0
    columns[starts[here] + 1] = there
    columns[starts[there] + found[there].int() + 1] = here.int()
    return Bags(columns, weights, starts)
