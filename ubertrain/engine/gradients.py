"""Parameter gradients of one step, all or nothing."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def all_or_nothing(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """`.grad` gains what is computed inside, as one `backward()` would add it; after an exception it is what it was before.

    A branch's backward and the trunk's are summed first and added to an earlier `.grad` (gradient accumulation) at the end, in
    place. While there is such an earlier gradient, the step holds both.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    before = [parameter.grad for parameter in trained]
    for parameter in trained:
        parameter.grad = None
    try:
        yield
    except BaseException:
        for parameter, gradient in zip(trained, before, strict=True):
            parameter.grad = gradient
        raise
    with torch.no_grad():
        for parameter, gradient in zip(trained, before, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else _sum(gradient, parameter.grad)


def _sum(earlier: Tensor, new: Tensor) -> Tensor:
    """`earlier` with `new` added to it; a new tensor where a sparse gradient meets a dense one, as in torch."""
    return new + earlier if earlier.is_sparse and not new.is_sparse else earlier.add_(new)
