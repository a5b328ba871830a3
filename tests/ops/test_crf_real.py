"""What the CRF is for, on photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from crf import agreement, busy_crop
from degraded import classes_of, degraded, mean_iou, pictures, sharpened

from ubertrain.engine.meter import LiveBytes
from ubertrain.ops import mean_field
from ubertrain.ops.crf import DenseCRF
from ubertrain.ops.crf_exact import exact_kernels, exact_mean_field


@pytest.mark.parametrize("name", ["COCO", "clothing"])
def test_crops_agree_with_the_exact_form(data_root: Path, name: str) -> None:
    """On 64x64 crops of photographs at least 99 % of labels are the exact form's, and marginals are within 0.03 on average."""
    if name == "clothing":
        pytest.importorskip("scipy", reason="pip install 'ubertrain[mat]'")
    random = np.random.default_rng(0)
    found = []
    for picture in pictures(data_root, name, 2):
        crop = busy_crop(picture, random)
        ids, mask = classes_of(crop)
        module = DenseCRF(len(ids)).requires_grad_(False)
        logits = degraded(mask, len(ids), 8)
        exact = exact_mean_field(logits, exact_kernels(crop.image, module.widths), module.weights)
        found.append(agreement(module(logits, crop.image), exact))
    same, error = np.array(found).T
    assert same.mean() >= 0.99
    assert error.max() <= 0.03


@pytest.mark.parametrize(
    ("name", "count"),
    [("VOC 2012", 3), ("ECSSD", 4), *(pytest.param(name, 6, marks=pytest.mark.slow) for name in ("COCO", "clothing", "ECSSD"))],
)
def test_coarse_masks_get_better(data_root: Path, name: str, count: int) -> None:
    """Masks known at every 32nd pixel only gain mean IoU from the default parameters."""
    if name == "clothing":
        pytest.importorskip("scipy", reason="pip install 'ubertrain[mat]'")
    results = [(picture.mask, *sharpened(picture, 32)) for picture in pictures(data_root, name, count)]
    before = mean_iou((mask, labels) for mask, labels, _ in results)
    after = mean_iou((mask, labels) for mask, _, labels in results)
    assert after > before + 0.01


def test_a_photograph_needs_no_more_than_is_declared(data_root: Path) -> None:
    """The bytes that the operator really holds are below what it declares, above half of it."""
    picture = next(pictures(data_root, "VOC 2012", 1))
    module = DenseCRF(8).requires_grad_(False)
    logits = torch.randn(1, 8, *picture.mask.shape)
    with LiveBytes() as real:
        mean_field.forward(logits, picture.image, module.weights, None, module.widths, 2, True, 0)
    with LiveBytes() as declared:
        mean_field.declare(logits, mean_field.FORWARD_MAPS, module.widths)
    assert 0.5 * declared.peak < real.peak <= declared.peak
