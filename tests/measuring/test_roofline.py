"""What an operation costs by the roofline of a device, against figures worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from ubertrain.errors import ConfigError
from ubertrain.measuring.devices import find_device
from ubertrain.measuring.roofline import Tf32, op_cost, roofline, unit_of
from ubertrain.measuring.speed import Speed
from ubertrain.measuring.work import OpCost, Work, flops

CPU = torch.device("cpu")
NEVER = Tf32(convolutions=False, products=False)
# 1 FLOP/s, so that seconds are FLOPs; moving is free, and so is starting
COUNTS_FLOPS = roofline(Speed({"float32": 1.0}, float("inf"), 0.0), NEVER)
COUNTS_BYTES = roofline(Speed({"float32": float("inf")}, 1.0, 0.0), NEVER)
COUNTS_STARTS = roofline(Speed({"float32": float("inf")}, float("inf"), 1.0), NEVER)


def total(cost: OpCost, run: Callable[[], object]) -> float:
    """The cost of all operations of `run`."""
    with Work(cost) as work:
        run()
    return work.total


VIEWS: dict[str, Callable[[Tensor], object]] = {
    "detach": lambda x: x.detach(),
    "view": lambda x: x.view(-1),
    "t": lambda x: x.t(),
    "expand": lambda x: x[None].expand(3, 4, 6),
    "as_strided": lambda x: x.as_strided((2, 2), (1, 1)),
    "select": lambda x: x[1],
    "slice": lambda x: x[1:3],
    "split": lambda x: x.split(2),
    "unbind": lambda x: x.unbind(),
    "unsafe_view": lambda x: torch.ops.aten._unsafe_view(x, [24]),
    "unsqueeze_": lambda x: x.unsqueeze_(0),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("fake", [False, True])
def test_views_cost_nothing(name: str, fake: bool) -> None:
    """Neither on real nor on fake tensors, and not even the overhead: nothing is computed."""
    speed = Speed({"float32": 1.0}, 1.0, 1.0)
    with FakeTensorMode() if fake else torch.no_grad():
        x = torch.ones(4, 6)
        assert total(roofline(speed, NEVER), lambda: VIEWS[name](x)) == 0


@pytest.mark.parametrize(
    ("run", "moved"),
    [
        (lambda x: x + x, 3 * 96),
        (lambda x: x.relu_(), 2 * 96),
        (lambda x: x.t().contiguous(), 2 * 96),
        (lambda x: x.zero_(), 2 * 96),
        (lambda x: torch.empty(1000), 0),
        (lambda x: torch.empty_like(x), 0),
        (lambda x: x.new_empty(7), 0),
    ],
)
def test_other_operations_are_bound_by_what_they_move(run: Callable[[Tensor], object], moved: int) -> None:
    """Every argument and result once, in place or not; reserving memory moves nothing, yet has to be started."""
    x = torch.ones(4, 6)
    assert total(COUNTS_BYTES, lambda: run(x)) == moved
    assert total(COUNTS_STARTS, lambda: run(x)) == 1


def test_flops_are_those_of_the_counter() -> None:
    """A product of 4 x 6 by 6 x 5: 2 * 4 * 6 * 5."""
    a, b = torch.ones(4, 6), torch.ones(6, 5)
    assert total(COUNTS_FLOPS, lambda: a @ b) == total(flops, lambda: a @ b) == 240


def test_a_convolution_is_bound_by_whichever_takes_longer() -> None:
    """By its FLOPs where arithmetic is slow, by its bytes where memory is; the overhead comes on top of both."""
    layer, x = nn.Conv2d(8, 16, 3, padding=1, bias=False), torch.ones(2, 8, 10, 10)
    count = 2 * (2 * 16 * 10 * 10) * (8 * 3 * 3)
    moved = 4 * (x.numel() + 16 * 8 * 3 * 3 + 2 * 16 * 10 * 10)
    slow_compute = roofline(Speed({"float32": 10.0}, 1e9, 5.0), NEVER)
    slow_memory = roofline(Speed({"float32": 1e9}, 10.0, 5.0), NEVER)
    with torch.no_grad():
        assert total(slow_compute, lambda: layer(x)) == pytest.approx(count / 10 + 5)
        assert total(slow_memory, lambda: layer(x)) == pytest.approx(moved / 10 + 5)


@pytest.mark.parametrize(
    ("dtype", "rate"), [(torch.float32, 1.0), (torch.bfloat16, 4.0), (torch.float16, 8.0), (torch.float64, 1.0)]
)
def test_the_dtype_of_the_result_picks_the_rate(dtype: torch.dtype, rate: float) -> None:
    """One without a rate of its own runs at that of float32."""
    cost = roofline(Speed({"float32": 1.0, "bfloat16": 4.0, "float16": 8.0}, float("inf"), 0.0), NEVER)
    a = torch.ones(4, 4, dtype=dtype)
    assert total(cost, lambda: a @ a) == 128 / rate


def test_autocast_is_seen() -> None:
    """Under it a product of float32 matrices runs at the rate of bfloat16."""
    cost = roofline(Speed({"float32": 1.0, "bfloat16": 4.0}, float("inf"), 0.0), NEVER)
    a = torch.ones(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert total(cost, lambda: a @ a) == 128 / 4


@pytest.mark.parametrize("convolutions", [False, True])
@pytest.mark.parametrize("products", [False, True])
def test_tf32_serves_what_may_use_it(convolutions: bool, products: bool) -> None:
    """Convolutions, forward and backward, and products of matrices have settings of their own in torch."""
    cost = roofline(Speed({"float32": 1.0, "tf32": 8.0}, float("inf"), 0.0), Tf32(convolutions, products))
    weight, x, a = torch.ones(1, 1, 1, 1, requires_grad=True), torch.ones(1, 1, 4, 4), torch.ones(4, 4)
    assert total(cost, lambda: F.conv2d(x, weight).sum().backward()) == 2 * 32 / (8 if convolutions else 1)
    assert total(cost, lambda: a @ a) == 128 / (8 if products else 1)


def test_tf32_follows_torchs_settings() -> None:
    """As they are when the cost is made; torch's own choice is TF32 in convolutions alone."""
    assert Tf32.set_now() == Tf32(convolutions=True, products=False)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert Tf32.set_now() == Tf32(convolutions=True, products=True)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_sparse_gradients_have_a_cost() -> None:
    """An embedding's backward hands tensors around that have no storage to ask for."""
    layer, ids = nn.Embedding(8, 16, sparse=True), torch.tensor([1, 2])
    assert total(COUNTS_STARTS, lambda: layer(ids).sum().backward()) > 0


@pytest.mark.parametrize("cost", ["flops", "auto", "h100", "cpu"])
def test_fake_tensors_cost_what_real_ones_do(cost: str) -> None:
    """Forward and backward of a small network, to the last operation; nothing is computed for it."""
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 36, 5))
    x, of_op = torch.ones(2, 3, 8, 8), op_cost(cost, CPU)
    real = total(of_op, lambda: layers(x).square().mean().backward())
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    layers.zero_grad()
    with mode:
        fake = total(of_op, lambda: layers(mode.from_tensor(x)).square().mean().backward())
    assert fake == pytest.approx(real, rel=1e-12)
    assert real > 0


def test_flops_are_counted_and_devices_timed(tmp_path: Path) -> None:
    """`flops` is torch's count but for a trace of bytes; a device's name is its roofline, also a user's."""
    file = tmp_path / "mine.yaml"
    file.write_text("toy: {tflops: {float32: 2}, gb_per_s: 100, memory: 3GiB}")
    a = torch.ones(64, 64)
    assert total(op_cost("flops", CPU), lambda: a @ a) == pytest.approx(2 * 64**3, rel=1e-3)
    assert 0 < total(op_cost("flops", CPU), lambda: a + a) < 100
    expected = total(roofline(find_device("toy", file).speed()), lambda: a @ a)
    assert total(op_cost("toy", CPU, file), lambda: a @ a) == expected


@pytest.mark.parametrize(("cost", "unit"), [("flops", "FLOPs"), ("auto", "seconds"), ("h100", "seconds")])
def test_every_cost_has_a_unit(cost: str, unit: str) -> None:
    """Only FLOPs are not seconds."""
    assert unit_of(cost) == unit


@pytest.mark.parametrize(("cost", "near"), [("flop", "flops"), ("autos", "auto"), ("h10", "h100")])
def test_an_unknown_cost_is_refused_with_the_nearest(cost: str, near: str) -> None:
    """Costs that are no device are near matches like any other."""
    with pytest.raises(ConfigError, match=f"did you mean '{near}'.*known: .*h100.*flops, auto"):
        op_cost(cost, CPU)
