"""What Python code may ask of a traced value: it gets the truth, or is kept whole."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.families import between, two_steps
from ubertrain.splitting.split import split
from ubertrain.splitting.tracing import Trace


class Asks(nn.Module):
    """Runs a function of its input and of its convolution."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.pair, self.run = nn.Conv2d(3, 3, 1), Pair(), run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class Pair(nn.Module):
    """Two results."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x


def swallowed(_: nn.Module, x: Tensor) -> Tensor:
    """Catches what tracing raises."""
    try:
        size = int(x.shape[2])
    except Exception:
        size = 100
    return x * size


def decided(_: nn.Module, x: Tensor) -> Tensor:
    """Catches that a condition is not known."""
    try:
        return x * 2 if x.sum() > -1e9 else x
    except Exception:
        return x * 3


def of_type(value: Any, kind: type) -> bool:
    """A helper of the user's own."""
    return isinstance(value, kind)


KNOWN: list[Callable[[Any, Any], Tensor]] = [
    lambda s, x: s.conv(x if isinstance(x, Tensor) else x[-1]),
    lambda s, x: s.conv(x if torch.is_tensor(x) else x[-1]),
    lambda s, x: s.conv(torch.cat(x if isinstance(x, (list, tuple)) else [x], 1)),
    lambda s, x: s.conv(x.last if hasattr(x, "last") else x),
    lambda s, x: s.conv(x * (3 if isinstance(x.shape, tuple) else 5)),
    lambda s, x: s.conv(x * (3 if isinstance(x.shape[-1], int) else 5)),
    lambda s, x: s.conv(x * (3 if isinstance(x.size(0) * 2, int) else 5)),
    lambda s, x: s.conv({x: x + 1}[x]),
    lambda s, x: s.conv(x * 2 if of_type(s.conv.weight, nn.Parameter) else x),
]
NOT_KNOWN: list[Callable[[Any, Any], Tensor]] = [
    lambda s, x: (y := s.pair(x), s.conv(y if isinstance(y, Tensor) else y[0]))[1],
    lambda s, x: (y := s.pair(x), s.conv(y[1] if hasattr(y, "count") else y))[1],
    lambda s, x: s.conv({torch.float32: 2.0}.get(x.dtype, 3.0) * x),
    lambda s, x: s.conv(x * (2 if x.shape[1] in {3} else 1)),
    swallowed,
    decided,
]


def compare(run: Callable[[Any, Any], Tensor]) -> bool:
    """Whether the module is kept whole; the stages do what the module does in any case."""
    net = between(Asks(run))
    other = copy.deepcopy(net)
    stages = split(net, finer=True, leaves=[Pair])
    chain = nn.Sequential(*stages.values())
    for found, expected in zip(two_steps(net, chain, True), two_steps(other, other, True), strict=True):
        assert found is expected is None or torch.equal(found, expected)
    return any(isinstance(part, Asks) for stage in stages.values() for part in stage.modules())


@pytest.mark.parametrize("run", KNOWN)
def test_what_is_known_is_answered(run: Callable[[Any, Any], Tensor]) -> None:
    """Types and attributes of tensors, shapes and sizes are answered truly, and the module is cut."""
    assert not compare(run)


@pytest.mark.parametrize("run", NOT_KNOWN)
def test_what_is_not_known_keeps_the_module_whole(run: Callable[[Any, Any], Tensor]) -> None:
    """Questions that only values answer keep the module whole, also where it catches the exception."""
    assert compare(run)


def test_python_is_as_it_was_after_a_trace() -> None:
    """`isinstance` and `hasattr` are Python's own again, also after a failure."""
    own = isinstance, hasattr
    for run in (KNOWN[0], lambda s, x: x if x.sum() > 0 else s.conv(x)):
        try:
            Trace(Asks(run), lambda module, path: isinstance(module, nn.Conv2d))
        except Exception as error:
            assert "cannot be traced" in str(error)
        assert (isinstance, hasattr) == own
