import math
from itertools import product

import pytest
import torch

from ubertrain.ops.boxes import area, clip, coverage, decode, encode, iou


def random_boxes(*shape: int) -> torch.Tensor:
    """Boxes with sides of 1 to 21 pixels within 0 to 61, float64."""
    corner, size = torch.rand(*shape, 2, dtype=torch.float64) * 40, torch.rand(*shape, 2, dtype=torch.float64) * 20 + 1
    return torch.cat([corner, corner + size], dim=-1)


@pytest.mark.parametrize(
    ("a", "b", "shared", "union"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 16, 16),
        ((0, 0, 4, 4), (2, 1, 6, 3), 4, 20),
        ((0, 0, 4, 4), (1, 1, 2, 2), 1, 16),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0, 32),
        ((0, 0, 4, 4), (9, 9, 10, 10), 0, 17),
        ((0, 0, 4, 4), (1, 1, 1, 3), 0, 16),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0, 1),
        ((3, 3, 2, 2), (0, 0, 4, 4), 0, 16),
    ],
)
def test_iou_and_coverage_by_hand(a: tuple[int, ...], b: tuple[int, ...], shared: float, union: float) -> None:
    """IoU and coverage are the areas counted by hand; an empty or inverted box shares nothing and divides nothing by 0."""
    first, second = torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32)
    assert iou(first, second).item() == pytest.approx(shared / union)
    assert coverage(first, second).item() == pytest.approx(shared / max(area(first).item(), 1))


def test_pairs_match_a_loop() -> None:
    """Every entry of a batched IoU is that of its two boxes alone, and IoU is symmetric."""
    a, b = random_boxes(2, 5), random_boxes(2, 3)
    pairs = iou(a, b)
    assert pairs.shape == (2, 5, 3)
    for row, i, j in product(range(2), range(5), range(3)):
        assert pairs[row, i, j] == iou(a[row, i : i + 1], b[row, j : j + 1]).squeeze()
    torch.testing.assert_close(pairs, iou(b, a).mT)


def test_encoding_is_the_papers() -> None:
    """Equation 2 of Faster R-CNN, written out for one box."""
    anchor, box = torch.tensor([10.0, 20.0, 30.0, 60.0]), torch.tensor([12.0, 16.0, 52.0, 36.0])
    expected = [(32 - 20) / 20, (26 - 40) / 40, math.log(40 / 20), math.log(20 / 40)]
    assert encode(box, anchor).tolist() == pytest.approx(expected)


def test_decode_inverts_encode() -> None:
    """A box that was encoded against any anchor comes back."""
    boxes, anchors = random_boxes(4, 30), random_boxes(30)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes)


def test_encode_of_padding_and_decode_of_nonsense_are_finite() -> None:
    """Padding boxes of zero size encode to finite numbers, and a wild network decodes to finite boxes."""
    assert encode(torch.zeros(1, 4), torch.zeros(1, 4)).isfinite().all()
    assert decode(torch.full((1, 4), 1e4), random_boxes(1).float()).isfinite().all()


def test_clip_keeps_boxes_within_the_image() -> None:
    """Each side stops at the border of its own axis."""
    boxes = torch.tensor([[-5.0, -6.0, 70.0, 80.0], [1.0, 2.0, 3.0, 4.0], [90.0, 90.0, 95.0, 95.0]])
    assert clip(boxes, (40, 60)).tolist() == [[0, 0, 60, 40], [1, 2, 3, 4], [60, 40, 60, 40]]
