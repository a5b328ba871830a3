import pytest
import torch

from ubertrain.ops.anchors import anchor_shapes, anchors


def test_shapes_have_the_area_and_ratio_asked_for() -> None:
    """Sizes are square roots of areas, ratios are height over width, and a size's ratios come one after the other."""
    shapes = anchor_shapes([8, 32], [0.5, 2])
    assert [width * height for width, height in shapes] == pytest.approx([64, 64, 1024, 1024])
    assert [height / width for width, height in shapes] == pytest.approx([0.5, 2, 0.5, 2])


def test_anchors_sit_on_the_cells_centres_row_by_row() -> None:
    """The order is that of a (height, width, shapes) map, the centre of cell (i, j) is ((j + 0.5), (i + 0.5)) strides."""
    boxes = anchors(torch.zeros(2, 5, 3, 4), 8, [10, 20], [1]).view(3, 4, 2, 4)
    assert boxes[0, 0, 0].tolist() == [-1, -1, 9, 9]
    assert boxes[2, 3, 1].tolist() == [28 - 10, 20 - 10, 28 + 10, 20 + 10]
