"""How fast the device at hand is: a few products, a copy and a tiny operation, timed once."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import _disable_current_modes

from ubertrain.errors import ConfigError
from ubertrain.measuring.speed import Speed

# Seconds for each figure. Of its runs the second fastest counts: others may use the machine too, and the clocks of virtual
# machines jump, so that the fastest can be faster than the machine.
_WINDOW = 0.03
# Of square matrices. Smaller ones would measure how threads wait for busy cores; the largest take 64 MiB each in float32.
_FIRST_ON_CPU, _LARGEST = 512, 4096
# Bytes: more than caches hold. On a CPU also more than glibc keeps for reuse (32 MiB), so that the copy pays for new pages as
# the result of an operation does: six times slower than a copy into old ones, and what predicts the time of real networks.
_COPIED = {"cpu": 40 * 2**20}
_COPIED_ELSEWHERE = 256 * 2**20
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Run = Callable[[], object]


def calibrate(device: torch.device) -> Speed:
    """What the device reaches now, with torch's present number of threads; measured once per process, in under half a second.

    FLOP/s are those of square matrix products in float32, bfloat16 and float16, and in TF32 on CUDA devices that have it;
    bytes/s those of a copy into new memory, which is what an operation's result is; the overhead is that of adding two
    numbers. Takes at most 512 MiB for a moment. Random numbers are left alone.

    Args:
        device: "meta" stands for this machine's accelerator, or its CPU where there is none.

    Raises:
        ConfigError: the device is not on this machine.
    """
    here = torch.accelerator.current_accelerator(check_available=True)
    if device.type == "meta":
        device = here or torch.device("cpu")
    if device.type != "cpu" and (here is None or here.type != device.type):
        raise ConfigError(
            f"cost='auto' measures the device at hand, and there is no {device.type!r} on this machine; "
            "name the device to estimate for, such as cost='h100', or count cost='flops'"
        )
    if device.type != "cpu" and device.index is None:
        device = torch.device(device.type, torch.accelerator.current_device_index())
    return _measured(device, torch.get_num_threads())


@functools.cache
def _measured(device: torch.device, threads: int) -> Speed:
    """`threads` only tells apart what was measured with different numbers of them."""
    with _disable_current_modes(), torch.no_grad(), torch.autocast(device.type, enabled=False):
        flops = {str(dtype).removeprefix("torch."): _product(device, dtype) for dtype in _DTYPES}
        if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0):
            with _tf32():
                flops["tf32"] = _product(device, torch.float32)
        source = torch.ones(_COPIED.get(device.type, _COPIED_ELSEWHERE), dtype=torch.uint8, device=device)
        one = torch.ones(1, device=device)
        return Speed(flops, 2 * source.nbytes / _seconds(source.clone, device), _seconds(lambda: one + one, device))


def _product(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the product of square matrices, as large as there is time for."""
    side = _FIRST_ON_CPU if device.type == "cpu" else _LARGEST
    if dtype != torch.float32:
        side //= 2  # some devices have no fast way for 16 bits
    while True:
        matrix = torch.ones(side, side, dtype=dtype, device=device)
        taken = _seconds(functools.partial(torch.matmul, matrix, matrix), device)
        if side == _LARGEST or 8 * taken > _WINDOW / 4:
            return 2 * side**3 / taken
        side *= 2


def _seconds(run: Run, device: torch.device) -> float:
    """Of one call: the second fastest of the batches that fill the window."""
    end = time.perf_counter() + _WINDOW
    batches = [_batch(run, device, 1) for _ in range(3)]
    calls = math.ceil(_WINDOW / 20 / min(batches))
    while time.perf_counter() < end:
        batches.append(_batch(run, device, calls))
    return sorted(batches)[1]


def _batch(run: Run, device: torch.device, calls: int) -> float:
    """Seconds of a call, from several in a row, all finished."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return (time.perf_counter() - start) / calls


@contextmanager
def _tf32() -> Iterator[None]:
    """Matrix products in TF32 inside the `with` block."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before
