"""A split leaves attributes as they were, and keeps whole what changes them."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.families import between, two_steps
from ubertrain.errors import ScheduleError
from ubertrain.splitting.split import split
from ubertrain.splitting.unchanged import Condition


class Keeps(nn.Module):
    """Keeps state in attributes of several kinds."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.calls, self.seen, self.by_name = what, 0, [1], {"a": 1}
        self.conv = nn.Conv2d(3, 3, 1)
        self.plain, self.generator = torch.ones(1), torch.Generator()
        self.register_buffer("mean", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.what == "number":
            self.calls += 1
            y = y * self.calls
        elif self.what == "new":
            self.last = y
        elif self.what == "list":
            self.seen.append(len(self.seen))
            y = y * self.seen[-1]
        elif self.what == "dict":
            self.by_name["a"] += 1
            y = y * self.by_name["a"]
        elif self.what == "tensor":
            self.plain.mul_(2)
            y = y * self.plain.clone()
        elif self.what == "average":
            self.plain = self.plain * 0.9 + x.detach().mean()
            y = y * self.plain
        elif self.what == "buffer":
            self.mean = self.mean * 0.9 + x.detach().mean()
            y = y * self.mean
        elif self.what == "lazy":
            if not hasattr(self, "late"):
                self.register_buffer("late", torch.full((1,), 2.0))
            y = y * self.late
        elif self.what == "generator":
            y = y * torch.rand(1, generator=self.generator)
        return y


def attributes(module: Keeps) -> list[Any]:
    """All that may change."""
    state = [sorted(vars(module)), module.calls, module.seen, module.by_name, module.plain.item(), id(module.plain)]
    buffers = [(name, id(buffer), buffer.item()) for name, buffer in module.named_buffers()]
    return copy.deepcopy([state, buffers, module.generator.get_state().tolist()])


KINDS = ["number", "new", "list", "dict", "tensor", "average", "buffer", "lazy", "generator"]


@pytest.mark.parametrize("what", KINDS)
def test_modules_with_state_in_attributes_are_kept_whole_and_unchanged(what: str) -> None:
    """After the split every attribute is the same; two steps of the stages are two steps of the module."""
    net = between(Keeps(what))
    other, before = copy.deepcopy(net), attributes(net[1])
    other[1].generator.set_state(net[1].generator.get_state())
    stages = split(net, finer=True)
    assert attributes(net[1]) == before
    assert any(isinstance(part, Keeps) for stage in stages.values() for part in stage.modules())
    chain = nn.Sequential(*stages.values())
    for found, expected in zip(two_steps(net, chain, True), two_steps(other, other, True), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("what", KINDS)
def test_the_module_is_unchanged_after_a_failure(what: str) -> None:
    """Outermost, such a module is refused, and still is as it was."""
    module = Keeps(what)
    before = attributes(module)
    with pytest.raises(ScheduleError, match="Keeps itself cannot be traced truthfully: it keeps state in attributes"):
        split(module)
    assert attributes(module) == before


class Fails(Keeps):
    """Changes itself, then cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if y.sum() > 0 else x


def test_an_untraceable_module_is_named_and_unchanged() -> None:
    """The error explains the module that cannot be traced when another one keeps state, and both are as they were."""
    net = nn.Sequential(Keeps("number"), Fails("none"))
    before = [attributes(module) for module in net]
    with pytest.raises(ScheduleError, match=r"module '1' \(Fails\) cannot be traced"):
        split(net)
    assert [attributes(module) for module in net] == before


def test_a_condition_that_did_not_change_names_nobody() -> None:
    """Nothing is put back, and what was put back once is the same."""
    net = between(Keeps("none"))
    condition = Condition(net)
    assert condition.restore() == []
    net[1].calls = 5
    assert condition.restore() == ["1"]
    assert condition.restore() == []
