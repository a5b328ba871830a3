"""Tensors that a forward pass makes anew stay new."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.families import between, two_steps
from ubertrain.errors import ScheduleError
from ubertrain.splitting.split import split


class Adds(nn.Module):
    """Writes into a tensor that it is called with."""

    def forward(self, total: Tensor) -> Tensor:
        return total.add_(1)


class Sums(nn.Module):
    """Makes a tensor and writes into it, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.how, self.adds = nn.Conv2d(3, 3, 1), how, Adds()

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(3, 1, 1)
        mean = x.detach().mean()
        if self.how == "+=":
            total += mean
        elif self.how == "add_":
            total.add_(mean)
        elif self.how == "item":
            total[0] = mean
        elif self.how == "view":
            total.view(3)[1:].add_(mean)
        elif self.how == "out":
            torch.add(total.clone(), mean, out=total)
        elif self.how == "call":
            total = self.adds(total) * mean
        return self.conv(x) * (total + 1)


@pytest.mark.parametrize("how", ["+=", "add_", "item", "view", "out", "call"])
def test_a_tensor_made_in_the_forward_pass_keeps_nothing_of_the_last_call(how: str) -> None:
    """Two steps of the stages are two steps of the module; outermost, it is refused."""
    net = between(Sums(how))
    other = copy.deepcopy(net)
    leaves = [Adds] if how == "call" else []
    chain = nn.Sequential(*split(net, finer=True, leaves=leaves).values())
    for found, expected in zip(two_steps(net, chain, True), two_steps(other, other, True), strict=True):
        assert torch.equal(found, expected)
    if how != "item":
        with pytest.raises(ScheduleError, match="Sums itself cannot be traced"):
            split(Sums(how), leaves=leaves)
