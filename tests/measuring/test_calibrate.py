"""What is measured of the device at hand."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ConfigError
from ubertrain.measuring.calibrate import calibrate

CPU = torch.device("cpu")


def test_every_figure_is_positive_and_finite() -> None:
    """FLOP/s of three dtypes, bytes/s and the overhead."""
    speed = calibrate(CPU)
    assert {"float32", "bfloat16", "float16"} <= speed.flops.keys()
    assert all(0 < figure < math.inf for figure in (*speed.flops.values(), speed.bytes_per_second, speed.overhead))


def test_a_device_is_measured_once_per_number_of_threads() -> None:
    """The second call answers with the first one's figures; another number of threads is another device."""
    first, threads = calibrate(CPU), torch.get_num_threads()
    assert calibrate(CPU) is first
    torch.set_num_threads(threads + 1)
    try:
        assert calibrate(CPU) is not first
    finally:
        torch.set_num_threads(threads)


def test_what_surrounds_the_measurement_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside of fake tensors, autocast and a meter, real products are timed, and the meter sees none of them."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: -1)  # not measured before
    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16), LiveBytes() as meter:
        speed = calibrate(CPU)
    assert meter.peak == 0
    assert speed.flops["float32"] < 1e14  # fake products take no longer when they are larger


def test_random_numbers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that measures draws the same numbers as one that does not."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: -2)
    before = torch.get_rng_state()
    calibrate(CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_device_that_is_not_here_is_refused() -> None:
    """It cannot be measured; the message says what to ask for instead."""
    with pytest.raises(ConfigError, match="no 'mtia' on this machine; name the device .*cost='h100'"):
        calibrate(torch.device("mtia"))


def test_a_graph_that_is_nowhere_is_measured_where_it_could_be() -> None:
    """`meta` stands for the accelerator, or for the CPU where there is none."""
    here = torch.accelerator.current_accelerator(check_available=True) or CPU
    assert calibrate(torch.device("meta")) is calibrate(here)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_is_measured_and_torchs_precision_put_back() -> None:
    """With an index or without; TF32 is tried where the card has it."""
    before = torch.backends.cuda.matmul.fp32_precision
    speed = calibrate(torch.device("cuda"))
    assert calibrate(torch.device("cuda", torch.cuda.current_device())) is speed
    assert torch.backends.cuda.matmul.fp32_precision == before
    assert ("tf32" in speed.flops) == (torch.cuda.get_device_capability() >= (8, 0))
