from typing import Any

import pytest
import torch
from torch import Tensor

from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.proposed_boxes import ProposedBoxes
from ubertrain.annotation.warp import Warp
from ubertrain.errors import DataError

SIZE = (20, 30)


def value(*proposals: tuple[float, ...], boxes: int = 1) -> dict[str, Tensor]:
    """An image with one object, or none, and some proposals."""
    return {
        "boxes": torch.tensor([[2.0, 3.0, 12.0, 9.0]] * boxes).view(-1, 4),
        "classes": torch.zeros(boxes, dtype=torch.long),
        "ignore": torch.zeros(boxes, dtype=torch.bool),
        "proposals": torch.tensor(proposals).view(-1, 4),
    }


@pytest.mark.parametrize("proposals", [[], [(0.0, 0.0, 30.0, 20.0)], [(5.0, 5.0, 5.0, 9.0)]])
def test_valid_values_pass(proposals: list[tuple[float, ...]]) -> None:
    """None at all, the whole image, and one without an area, which is padding."""
    ProposedBoxes.check(value(*proposals), SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proposals": torch.zeros(3, 5)}, "proposals must have shape"),
        ({"proposals": torch.zeros(3, 4, dtype=torch.int64)}, "proposals must be torch.float32"),
        ({"proposals": torch.full((1, 4), torch.nan)}, "a proposal is not finite"),
        ({"proposals": torch.tensor([[0.0, 0, 5, 5], [9.0, 0, 5, 5]])}, r"proposal 1 of 2 \(9 0 5 5\) is not x0 y0 x1 y1"),
        ({"classes": torch.tensor([-1])}, "negative class id"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Tensor], message: str) -> None:
    """Shape, type and numbers of proposals, and all that is wrong with boxes."""
    with pytest.raises(DataError, match=message):
        ProposedBoxes.check({**value((0.0, 0.0, 5.0, 5.0)), **change}, SIZE)


def test_boxes_without_proposals_are_refused() -> None:
    """A value of plain boxes is not one of these; the message says where proposals come from."""
    plain: dict[str, Any] = value()
    del plain["proposals"]
    with pytest.raises(DataError, match="lack the entry 'proposals'.*with_proposals"):
        ProposedBoxes.check(plain, SIZE)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.0])
def test_proposals_follow_a_warp_as_boxes_do(flip: bool, zoom: float) -> None:
    """The same corners as proposals and as boxes come out the same; those out of view have no area, and stay in their place."""
    warp = Warp.about(SIZE, (16, 24), zoom=zoom, flip=flip, centre=(12.0, 8.0))
    corners = torch.tensor([[2.0, 3.0, 12.0, 9.0], [10.0, 5.0, 20.0, 18.0]])
    out = torch.tensor([[-90.0, -90.0, -80.0, -80.0]])
    as_boxes = {"boxes": corners, "classes": torch.zeros(2, dtype=torch.long), "ignore": torch.zeros(2, dtype=torch.bool)}
    warped = ProposedBoxes.warp({**as_boxes, "proposals": torch.cat([corners[:1], out, corners[1:]])}, warp)
    expected = Boxes.warp(as_boxes, warp)
    torch.testing.assert_close(warped["boxes"], expected["boxes"])
    torch.testing.assert_close(warped["proposals"][[0, 2]], expected["boxes"])
    assert not warped["proposals"][1].any()


def test_collated_proposals_are_padded() -> None:
    """Unused rows are 0 0 0 0, with at least one row; the boxes are as without proposals."""
    values = [value((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)), value(boxes=0)]
    table = ProposedBoxes.collate(values)
    assert table["proposals"].tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8]], [[0] * 4] * 2]
    assert ProposedBoxes.collate([value()])["proposals"].shape == (1, 1, 4)
    for name, column in Boxes.collate(values).items():
        assert torch.equal(table[name], column)
