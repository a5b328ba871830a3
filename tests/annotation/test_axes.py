"""Conventions of stored normals, against surfaces whose normals are plain to see."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ubertrain.annotation.axes import Axes
from ubertrain.data.images import read_depth, read_normals
from ubertrain.errors import ConfigError

FLOOR, WALL_ON_THE_RIGHT, FRONTAL = (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, -1.0)


@pytest.mark.parametrize(
    ("axes", "floor", "right_wall", "frontal"),
    [
        ("right down forward", (0, -1, 0), (-1, 0, 0), (0, 0, -1)),
        ("right up back", (0, 1, 0), (-1, 0, 0), (0, 0, 1)),
        ("right forward up", (0, 0, 1), (-1, 0, 0), (0, -1, 0)),
        ("left up forward", (0, 1, 0), (1, 0, 0), (0, 0, -1)),
        ("forward left up", (0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    ],
)
def test_the_same_surfaces_come_out_of_every_convention(
    axes: str, floor: tuple[int, ...], right_wall: tuple[int, ...], frontal: tuple[int, ...]
) -> None:
    """A floor faces up, a wall on the right faces left, a frontal surface faces the viewer."""
    stored = torch.tensor([floor, right_wall, frontal], dtype=torch.float32).T[:, :, None]
    assert Axes.parse(axes).converted(stored)[:, :, 0].T.tolist() == [list(FLOOR), list(WALL_ON_THE_RIGHT), list(FRONTAL)]


def test_unknown_normals_stay_unknown() -> None:
    """0 0 0 has no direction in any convention."""
    assert not Axes.parse("left up back").converted(torch.zeros(3, 2, 2)).any()


@pytest.mark.parametrize("axes", ["", "x y z", "right down", "right left forward", "right down forward up", "up up up"])
def test_what_is_no_convention_is_refused(axes: str) -> None:
    """With an example in the message."""
    with pytest.raises(ConfigError, match='such as "right down forward"; given is'):
        Axes.parse(axes)


def _normals_of_depth(depth: Tensor, focal: float) -> Tensor:
    """Normals (3, height, width) by differences over four pixels of the surface seen at `depth`; 0 at the border."""
    height, width = depth.shape
    x = (torch.arange(width) + 0.5 - width / 2) / focal
    y = (torch.arange(height) + 0.5 - height / 2) / focal
    points = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)]) * depth
    across, down = torch.zeros_like(points), torch.zeros_like(points)
    across[:, :, 2:-2] = points[:, :, 4:] - points[:, :, :-4]
    down[:, 2:-2] = points[:, 4:] - points[:, :-4]
    normals = torch.linalg.cross(down, across, dim=0)
    return normals / normals.norm(dim=0).clamp(min=1e-9)


@pytest.mark.parametrize("scene", ["hm3d/point_12_view_1", "google-objects/point_21_view_5", "taskonomy/point_202_view_5"])
def test_omnidata_is_right_down_forward(data_root: Path, scene: str) -> None:
    """Its normals are those of its depth, at 512 units a metre and a view of 75 degrees; with another axis they are not."""
    stem = data_root / "omnidata-samples" / f"{scene}_domain"
    depth = read_depth(Path(f"{stem}_depth_zbuffer.png"), scale=512)
    stored = read_normals(Path(f"{stem}_normal.png"))
    expected = _normals_of_depth(depth, focal=depth.shape[1] / 2 / np.tan(np.radians(75 / 2)))
    known = (stored != 0).any(dim=0) & (expected != 0).any(dim=0)

    def median(axes: str) -> float:
        cosines = (Axes.parse(axes).converted(stored) * expected).sum(dim=0)[known]
        return float(torch.rad2deg(torch.acos(cosines.clamp(-1, 1))).median())

    errors = {axes: median(axes) for axes in ("right down forward", "right up forward", "right up back", "left down forward")}
    right = errors.pop("right down forward")
    assert right < 5 and min(errors.values()) > 3 * right


def test_nyu_as_multi_task_refinenet_stores_it(tmp_path: Path) -> None:
    """Channels x, z and -y, mid grey unknown: a floor, a frontal wall and a hole are what they were, to 8 bits."""
    truth = torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [0.6, 0.0, -0.8]])
    x, y, z = truth.T
    stored = (127.5 * (torch.stack([x, z, -y], dim=-1) + 1)).round().to(torch.uint8)[None]
    stored = torch.cat([stored, torch.full((1, 1, 3), 127, dtype=torch.uint8)], dim=1)
    Image.fromarray(stored.numpy()).save(tmp_path / "norm_gt.png")
    read = Axes.parse("right forward up").converted(read_normals(tmp_path / "norm_gt.png"))
    torch.testing.assert_close(read[:, 0, :3].T, truth, atol=0.01, rtol=0)
    assert not read[:, 0, 3].any()
