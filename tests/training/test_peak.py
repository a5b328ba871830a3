"""The measured peak of a step."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.rooms_model import DENSE, made
from ubertrain.engine.engine import Engine
from ubertrain.engine.meter import LiveBytes
from ubertrain.training.memory import parse_schedule
from ubertrain.training.peak import CudaPeak, peak_meter


class Allocator(LiveBytes):
    """Stands for torch's CUDA allocator: counts gradients, too, and knows `earlier` bytes from before."""

    earlier = 1234

    def _except_gradient(self, parameter: Any) -> None:
        """A gradient takes memory like anything else."""

    def reset(self, device: torch.device) -> None:
        """Forget the peak."""
        self.peak = self.live


@pytest.mark.parametrize("schedule", ["keep_all", "every_k:1", "every_k:2"])
def test_the_allocators_peak_without_gradients_is_that_of_live_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    """Read when a gradient arrives, and counted from there without it, the allocator's peak is the one of the activations."""
    model, batch = made(tmp_path, DENSE)
    engine = Engine(model.graph, parse_schedule(schedule, model.graph))
    with LiveBytes() as expected:
        engine.forward_backward(batch.images, batch.targets)
    model.graph.zero_grad(set_to_none=True)
    allocator = Allocator()
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocator.live + allocator.earlier)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: allocator.peak + allocator.earlier)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", allocator.reset)
    found = CudaPeak(model.graph, torch.device("cpu"))
    with found, allocator:
        engine.forward_backward(batch.images, batch.targets)
    assert found.peak == expected.peak
    assert allocator.live > 0, "gradients are still there"


def test_a_cpu_is_measured_tensor_by_tensor(tmp_path: Path) -> None:
    """Torch's allocator for CPUs keeps no peak."""
    model, _ = made(tmp_path, DENSE)
    assert isinstance(peak_meter(model.graph, torch.device("cpu")), LiveBytes)
    assert isinstance(peak_meter(model.graph, torch.device("cuda")), CudaPeak)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_measures_what_was_rehearsed(tmp_path: Path) -> None:
    """After a first step, which makes workspaces that stay, the allocator's peak is within 3 % of the rehearsed one."""
    from ubertrain.measuring.rehearse import rehearse
    from ubertrain.training.device import on_device

    model, batch = made(tmp_path, DENSE, "device=cuda", "data.size=[192, 256]")
    there = on_device(batch, torch.device("cuda"))
    schedule = parse_schedule("every_k:2", model.graph)
    engine = Engine(model.graph, schedule)
    expected = rehearse(model.graph, schedule, there.images, there.targets, rounding=512)
    for _ in range(2):
        model.graph.zero_grad(set_to_none=True)
        with peak_meter(model.graph, torch.device("cuda")) as meter:
            engine.forward_backward(there.images, there.targets)
    assert meter.peak == pytest.approx(expected, rel=0.03)
