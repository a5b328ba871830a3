import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ubertrain.ops import nms as nms_module
from ubertrain.ops import roi_align as roi_align_module
from ubertrain.ops.compiled import compiled
from ubertrain.ops.roi_align import roi_align


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What was found in one test is not remembered in the next."""
    compiled.cache_clear()
    yield
    compiled.cache_clear()


@pytest.mark.parametrize(
    "source",
    [
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "raise OSError('libcudart.so.13: cannot open shared object file')",
        "import warnings; warnings.warn('Failed to load image extension')",
    ],
)
def test_a_torchvision_that_does_not_work_is_none(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that fails to import, or imports without its operators, is as good as none: no error, no warning."""
    (tmp_path / "torchvision.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled("an_operator_that_is_not_there", "cpu") is None


def test_an_operator_is_found_only_where_it_has_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a kernel for the device the operator is returned; for another device it is not."""
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("twice_for_a_test(Tensor x) -> Tensor")
    library.impl("twice_for_a_test", lambda x: x * 2, "CPU")
    operator = compiled("twice_for_a_test", "cpu")
    assert operator is not None and operator(torch.ones(1)).item() == 2
    assert compiled("twice_for_a_test", "cuda") is None


def test_compiled_operators_are_called_as_torchvision_defines_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suppression and RoI align hand over boxes, image indices and settings in torchvision's order, and take its result."""
    calls: dict[str, Any] = {}

    def fake_nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
        calls["nms"] = iou_threshold
        return torch.tensor([1])

    def fake_align(level: Any, boxes: Any, scale: float, height: int, width: int, samples: int, aligned: bool) -> torch.Tensor:
        calls["roi_align"] = boxes, scale, height, width, samples, aligned
        return torch.arange(len(boxes) * 3 * 7 * 7.0).view(-1, 3, 7, 7)

    monkeypatch.setattr(nms_module, "compiled", lambda name, device: fake_nms)
    monkeypatch.setattr(roi_align_module, "compiled", lambda name, device: fake_align)
    boxes = torch.arange(16.0).view(2, 2, 4)
    assert nms_module.nms(boxes[0], torch.zeros(2), 0.25).tolist() == [1]
    assert calls["nms"] == 0.25
    assert roi_align(torch.zeros(2, 3, 4, 4), boxes, 8)[1, 0, 0, 0, 0] == 2 * 3 * 49
    table, *settings = calls["roi_align"]
    assert table.tolist() == [[row, *boxes[row, n].tolist()] for row in range(2) for n in range(2)]
    assert settings == [1 / 8, 7, 7, 2, True]


def test_deterministic_algorithms_use_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """RoI align does not call torchvision, whose CUDA backward is not deterministic, when determinism is asked for."""
    monkeypatch.setattr(roi_align_module, "compiled", lambda name, device: pytest.fail("called"))
    torch.use_deterministic_algorithms(True)
    try:
        assert roi_align(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4), 8).shape == (1, 2, 3, 7, 7)
    finally:
        torch.use_deterministic_algorithms(False)
