"""Boxes around objects, with other boxes that may hold some: what Fast R-CNN is given."""

from typing import Any

import torch
from torch import Tensor

from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.values import expect, expect_tensor
from ubertrain.annotation.warp import Warp


class ProposedBoxes(Boxes):
    """A value of `Boxes` with one entry more.

    - "proposals": (proposals, 4) float32, x0 y0 x1 y1 in pixels as "boxes", best first; none is valid.

    Collated: (rows, most, 4), whose unused rows are 0 0 0 0, with at least one row. Proposals that a warp moves out of view
    become such rows too, in place, so that they have no area.
    """

    @classmethod
    def check(cls, value: Any, size: tuple[int, int]) -> None:
        """As for `Boxes`; proposals must be finite and x0 y0 x1 y1 with x1 >= x0 and y1 >= y0."""
        super().check(value, size)
        expect("proposals" in value, "boxes lack the entry 'proposals'; read the data set through with_proposals")
        proposals = expect_tensor(value["proposals"], "proposals", (None, 4), torch.float32)
        expect(bool(proposals.isfinite().all()), "a proposal is not finite")
        right = (proposals[:, 2:] >= proposals[:, :2]).all(dim=1)
        if not right.all():
            first = int((~right).int().argmax())
            numbers = " ".join(f"{number:g}" for number in proposals[first].tolist())
            expect(False, f"proposal {first} of {len(proposals)} ({numbers}) is not x0 y0 x1 y1 with x1 >= x0 and y1 >= y0")

    @classmethod
    def warp(cls, value: Any, warp: Warp) -> dict[str, Tensor]:
        """As for `Boxes`; proposals are the upright boxes around the warped ones, clipped to the output."""
        x0, y0, x1, y1 = value["proposals"].unbind(dim=1)
        corners = warp.points(torch.stack([x0, y0, x1, y0, x0, y1, x1, y1], dim=1).unflatten(1, (4, 2)))
        limit = torch.tensor([warp.size[1], warp.size[0]], dtype=corners.dtype)
        low, high = (side.clamp(min=0).minimum(limit) for side in (corners.amin(dim=1), corners.amax(dim=1)))
        seen = torch.cat([low, high], dim=1)
        boxes = super().warp({name: rows for name, rows in value.items() if name != "proposals"}, warp)
        return {**boxes, "proposals": seen * (high > low).all(dim=1, keepdim=True)}

    @classmethod
    def collate(cls, values: list[Any]) -> dict[str, Tensor]:
        """As for `Boxes`, and proposals (rows, most, 4); most >= 1."""
        most = max(1, *(len(value["proposals"]) for value in values))
        proposals = torch.zeros(len(values), most, 4)
        for row, value in enumerate(values):
            proposals[row, : len(value["proposals"])] = value["proposals"]
        return {**super().collate(values), "proposals": proposals}
