"""An example shows what tracing could not notice."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.families import FAMILIES, between, images
from ubertrain.errors import ScheduleError
from ubertrain.splitting.split import split


class Hides(nn.Module):
    """Decides by what tracing cannot notice."""

    def __init__(self, run: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.same, self.run = nn.Identity(), run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


HIDDEN: list[Callable[[Any, Any], Tensor]] = [
    lambda s, x: x * 2 if type(x) is Tensor else x * 3,
    lambda s, x: x * 2 if s.same(x) is x else x * 3,
    lambda s, x: x.clone() if x.requires_grad is True else x * 3,
]


@pytest.mark.parametrize("run", HIDDEN)
def test_an_example_finds_the_first_stage_that_differs(run: Callable[[Any, Any], Tensor]) -> None:
    """Without the example the mistake is silent; with it, the stage and the module are named."""
    net = between(Hides(run))
    x = torch.rand(2, 3, 4, 4)
    assert not torch.equal(nn.Sequential(*split(net).values())(x), net(x))
    with pytest.raises(ScheduleError, match=r"stage '1' does not return what '1' does in training mode"):
        split(nn.Sequential(net[0], nn.Sequential(net[1]), net[2]), ["1"], example=x)
    with pytest.raises(ScheduleError, match=r"does not return what .* does in training mode.*leaves="):
        split(net, example=x)
    assert len(split(net, leaves=[Hides], example=x)) == 2


@pytest.mark.parametrize("finer", [False, True])
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("own_vgg16", "own_efficientnet")])
@pytest.mark.parametrize("tapped", [True, False])
def test_an_example_passes_where_the_stages_are_right(name: str, finer: bool, tapped: bool) -> None:
    """All families, with and without taps, agree with their stages; parameters, buffers and random numbers do not change."""
    make, taps = FAMILIES[name]
    module = make()
    x = images()
    before = [tensor.clone() for tensor in module.state_dict().values()]
    drawn = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    split(module, taps if tapped else (), finer=finer, example=x)
    assert all(torch.equal(a, b) for a, b in zip(before, module.state_dict().values(), strict=True))
    assert torch.equal(drawn[0], torch.get_rng_state())
    assert drawn[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    assert all(p.grad is None for p in module.parameters())
