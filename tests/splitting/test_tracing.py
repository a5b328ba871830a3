"""What differs between training and evaluation is found in either trace."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.families import between, two_steps
from ubertrain.errors import ScheduleError
from ubertrain.splitting.split import split


class Custom(nn.Module):
    """A convolution for a function to use."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.run = nn.Conv2d(3, 3, 1), run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def noise(module: nn.Module, x: Tensor) -> Tensor:
    """Random numbers in training only."""
    return x + (torch.randn(1) if module.training else torch.zeros(1))


def gradients(module: nn.Module, x: Tensor) -> Tensor:
    """Gradients in evaluation only."""
    with torch.set_grad_enabled(not module.training):
        y = x.tanh()
    return x + y


def autocast(module: nn.Module, x: Tensor) -> Tensor:
    """Autocast in training only."""
    with torch.autocast("cpu", torch.bfloat16, enabled=module.training):
        y = module.conv(x)
    return y.float() + x


def constants(module: nn.Module, x: Tensor) -> Tensor:
    """Another value of the constant in each mode."""
    return x * (torch.full((1,), 0.5) if module.training else torch.ones(1))


def dtypes(module: nn.Module, x: Tensor) -> Tensor:
    """Another dtype of the constant in each mode."""
    return (x * torch.ones(1, dtype=torch.float64 if module.training else torch.float32)[:, None, None, None]).float()


MODES = [noise, gradients, autocast, constants, dtypes]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("run", MODES)
def test_what_happens_in_one_mode_only_keeps_its_module_whole(run: Callable[..., Tensor], training: bool) -> None:
    """Noise, switches and constants of either mode are noticed; the stages do the same in both."""
    net = between(Custom(run))
    other = copy.deepcopy(net)
    stages = split(net, finer=True)
    assert any(isinstance(part, Custom) for stage in stages.values() for part in stage.modules())
    for stage in stages.values():
        stage.train(training)
    chain = nn.Sequential(*stages.values())
    for found, expected in zip(two_steps(net, chain, training), two_steps(other, other, training), strict=True):
        assert found is expected is None or torch.equal(found, expected)


@pytest.mark.parametrize("run", MODES)
def test_it_is_refused_in_the_outermost_module(run: Callable[..., Tensor]) -> None:
    """The module itself cannot be kept whole."""
    with pytest.raises(ScheduleError, match="Custom itself cannot be traced truthfully"):
        split(Custom(run))


def test_constants_that_are_alike_are_no_difference() -> None:
    """A constant that both modes make alike is left in the trace, whatever number it has."""

    def run(module: nn.Module, x: Tensor) -> Tensor:
        return module.conv(x) * torch.full((1,), 0.5)

    stages = split(between(Custom(run)), finer=True)
    assert not any(isinstance(part, Custom) for stage in stages.values() for part in stage.modules())
