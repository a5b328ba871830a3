"""Parameter gradients of one step, all or nothing."""

import pytest
import torch
from torch import Tensor, nn

from ubertrain.engine.gradients import all_or_nothing


def parameter(gradient: Tensor | None) -> nn.Parameter:
    """A parameter with this .grad."""
    result = nn.Parameter(torch.zeros(2))
    result.grad = gradient
    return result


DENSE = torch.tensor([1.0, 2.0])


@pytest.mark.parametrize("first", [DENSE, DENSE.to_sparse()], ids=["dense", "sparse"])
@pytest.mark.parametrize("second", [DENSE, DENSE.to_sparse()], ids=["dense", "sparse"])
def test_sparse_and_dense_gradients_add_up(first: Tensor, second: Tensor) -> None:
    """A gradient of either layout is added to one of either layout."""
    weight = parameter(first.clone())
    with all_or_nothing([weight]):
        weight.grad = second.clone()
    assert weight.grad is not None
    assert torch.equal(weight.grad.to_dense(), 2 * DENSE)


def test_an_exception_restores_the_earlier_gradients() -> None:
    """After an error .grad is the tensor it was, and None where there was none."""
    weights = [parameter(held := DENSE.clone()), parameter(None)]
    with pytest.raises(KeyboardInterrupt), all_or_nothing(weights):
        for weight in weights:
            weight.grad = torch.ones(2)
        raise KeyboardInterrupt
    assert weights[0].grad is held and torch.equal(held, DENSE)
    assert weights[1].grad is None
