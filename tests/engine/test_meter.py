"""What LiveBytes counts, on cases small enough to count by hand."""

import torch
from torch import nn

from ubertrain.engine.meter import LiveBytes

KIB = 256  # float32 values


def test_a_storage_counts_once_from_its_making_to_its_end() -> None:
    """Views and in-place writes add nothing; deleting the last tensor of a storage takes its bytes away."""
    with LiveBytes() as meter:
        x = torch.zeros(KIB)
        views = [x.view(16, 16), x[3:], x.add_(1)]
        assert meter.live == 1024
        y = x + 1
        assert meter.live == 2048
        del x
        assert meter.live == 2048
        del views
        assert meter.live == 1024
        del y
    assert (meter.live, meter.peak) == (0, 2048)


def test_what_existed_before_does_not_count() -> None:
    """Neither do views of it made inside."""
    before = torch.zeros(KIB)
    with LiveBytes() as meter:
        before.view(16, 16).t().mul_(2)
    assert meter.peak == 0


def test_a_parameter_gradient_stops_counting_when_it_is_in_grad() -> None:
    """The gradient of the weight passes through the peak and is then static."""
    layer, x = nn.Linear(16, 16, bias=False), torch.ones(1, 16)
    with LiveBytes() as meter:
        layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert meter.live == 0
    assert meter.peak >= 1024


def test_an_accumulated_gradient_counts_while_it_is_on_its_way() -> None:
    """With .grad allocated beforehand a step's own gradient is transient, and nothing stays."""
    layer, x = nn.Linear(16, 16, bias=False), torch.ones(1, 16)
    layer.weight.grad = torch.zeros(16, 16)
    with LiveBytes() as meter:
        layer(x).sum().backward()
    assert meter.live == 0


def test_the_gradient_of_an_input_counts() -> None:
    """Only parameters are excepted."""
    x = torch.ones(KIB, requires_grad=True)
    with LiveBytes() as meter:
        (x * 2).sum().backward()
    assert meter.live == 1024


def test_saved_tensors_count_until_the_backward_frees_them() -> None:
    """exp keeps its output, and the peak holds output and gradient together."""
    x = nn.Parameter(torch.zeros(KIB))
    with LiveBytes() as meter:
        y = x.exp().exp()
        assert meter.live == 2 * 1024
        y.backward(torch.ones_like(y))
        del y
    assert meter.live == 0
    assert meter.peak >= 3 * 1024


def test_meters_nest() -> None:
    """An inner meter sees its part, the outer one everything."""
    with LiveBytes() as outer:
        x = torch.zeros(KIB)
        with LiveBytes() as inner:
            y = torch.zeros(2 * KIB)
    assert (inner.live, outer.live) == (2048, 3072)
    del x, y
    assert (inner.live, outer.live) == (0, 0)


def test_a_sparse_gradient_stops_counting_too() -> None:
    """Its indices and values are counted while they are made, and no more when they stand in .grad."""
    layer, ids = nn.Embedding(8, 16, sparse=True), torch.tensor([1, 2])
    with LiveBytes() as meter:
        layer(ids).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.is_sparse
    assert meter.peak >= 2 * 16 * 4
    assert meter.live == 0


def test_storages_are_rounded_one_by_one() -> None:
    """With a rounding of 512, two scalars count 1024 bytes and 513 bytes count as much; a whole multiple stays."""
    with LiveBytes(rounding=512) as meter:
        scalars = [torch.zeros(()), torch.zeros(())]
        assert meter.live == 1024
        odd = torch.zeros(513, dtype=torch.uint8)
        assert meter.live == 2048
        even = torch.zeros(KIB)
        assert meter.live == 3072
        del scalars, odd, even
    assert (meter.live, meter.peak) == (0, 3072)
