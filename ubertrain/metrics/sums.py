"""Metrics whose whole state is one table of sums."""

from abc import abstractmethod

import torch
from torch import Tensor

from ubertrain.metrics.metric import Metric


class SumMetric(Metric):
    """A metric that gathers one float64 tensor and computes everything from it.

    Counts are exact up to 2^53; sums of measurements are exact enough that the order of batches shows in the last digits only.
    """

    def __init__(self, *shape: int) -> None:
        self.sums = torch.zeros(shape, dtype=torch.float64)

    def merge(self, other: Metric) -> None:
        assert isinstance(other, type(self)) and other.sums.shape == self.sums.shape, (self, other)
        self.sums += other.sums

    def add(self, sums: Tensor) -> None:
        """Add a table of the shape of `sums`, from any device."""
        self.sums += sums.detach().to("cpu", torch.float64)

    @abstractmethod
    def compute(self) -> dict[str, float]: ...


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """`part / whole`, nan where `whole` is 0."""
    return torch.where(whole > 0, part / whole.clamp(min=torch.finfo(torch.float64).tiny), torch.nan)
