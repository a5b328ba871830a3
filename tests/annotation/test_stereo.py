"""Pairs of views under warps: a textured sphere before a wall, rendered from two cameras with known disparity."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ubertrain.annotation import Depth, RandomWarp, Stereo, Warp
from ubertrain.annotation.stereo import stereo_value
from ubertrain.errors import DataError
from ubertrain.ops.disparity import shifted

SIZE = (96, 128)
BASELINE = 0.2


@dataclass(frozen=True)
class View:
    """A camera at `x` metres, looking along z at a sphere before a wall; focal and principal in pixels."""

    x: float = 0.0
    focal: float = 115.0
    principal: tuple[float, float] = (SIZE[1] / 2, SIZE[0] / 2)
    size: tuple[int, int] = SIZE
    mirrored: bool = False
    """Whether the whole world is mirrored."""


def rendered(view: View) -> tuple[Tensor, Tensor]:
    """Picture (3, height, width) uint8 and depth (height, width), by casting a ray through every pixel's centre."""
    u = (torch.arange(view.size[1]) + 0.5 - view.principal[0]) / view.focal
    v = (torch.arange(view.size[0]) + 0.5 - view.principal[1]) / view.focal
    rays = torch.stack(torch.broadcast_tensors(u, v[:, None], torch.ones(())))
    sign = -1.0 if view.mirrored else 1.0
    centre = torch.tensor([sign * 0.15 - view.x, -0.05, 2.0])[:, None, None]
    square, along = (rays**2).sum(0), (rays * centre).sum(0)
    room = along**2 - square * ((centre**2).sum(0) - 0.5**2)
    depth = torch.where(room > 0, (along - room.clamp(min=0).sqrt()) / square, 3.0)
    point = rays * depth
    x, y = sign * (point[0] + view.x), point[1]
    waves = [torch.sin(9 * x + 5 * y), torch.sin(7 * y - 4 * x + point[2]), torch.sin(11 * x * y + 6 * x)]
    return ((torch.stack(waves) + 1) * 127).round().to(torch.uint8), depth


def pair(view: View = View(), side: float = 1.0) -> dict[str, Tensor]:
    """The value whose image is `view` and whose other camera stands at `side` times the baseline."""
    own, depth = rendered(view)
    other, _ = rendered(replace(view, x=view.x + side * BASELINE))
    scale = BASELINE * view.focal / view.size[1]
    return stereo_value(own, other, disparity=scale / depth, scale=scale, side=side)


def unexplained(value: dict[str, Tensor], *, sign: float = 1.0) -> float:
    """Median difference between the image and itself made of the other view by the true disparity, of 255."""
    width = value["own"].shape[-1]
    made = shifted(value["other"][None].float(), (-sign * value["side"] * value["disparity"] * width)[None])[0]
    known = value["valid"] & (value["disparity"] > 0)
    known[:, : width // 4] = known[:, -(width // 4) :] = False  # what may be seen by one camera only
    return float((value["own"].float() - made).abs().mean(dim=0)[known].median())


WARPS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "flip": {"flip": True},
    "vertical flip": {"degrees": 180, "flip": True},
    "half turn": {"degrees": 180},
    "enlarge": {"zoom": 1.5},
    "shrink": {"zoom": 0.6},
    "crop": {"centre": (70.0, 40.0)},
    "all at once": {"zoom": 1.3, "flip": True, "centre": (60.0, 52.0)},
}
every_warp = pytest.mark.parametrize("name", WARPS)


@every_warp
def test_the_true_disparity_still_explains_one_view_by_the_other(name: str) -> None:
    """After any warp that keeps rows rows; on the other side, or without a shift, it does not."""
    warped = Stereo.warp(pair(), Warp.about(SIZE, SIZE, **WARPS[name]))
    assert unexplained(warped) < 2.5
    assert unexplained(warped, sign=0) > 10
    assert unexplained(warped, sign=-1) > 10


@pytest.mark.parametrize("name", ["nothing", "flip", "enlarge", "crop", "all at once"])
def test_a_warped_pair_is_what_two_cameras_see_of_the_moved_world(name: str) -> None:
    """Views, disparity, side and scale are those of an independent rendering; a flip mirrors the world and swaps cameras."""
    options = WARPS[name]
    zoom, flip = options.get("zoom", 1.0), options.get("flip", False)
    centre = options.get("centre", (SIZE[1] / 2, SIZE[0] / 2))
    offset = (SIZE[1] / 2 - centre[0]) * (-1 if flip else 1), SIZE[0] / 2 - centre[1]
    principal = SIZE[1] / 2 + zoom * offset[0], SIZE[0] / 2 + zoom * offset[1]
    view = View(focal=115.0 * zoom, principal=principal, mirrored=flip)
    expected = pair(view, side=-1.0 if flip else 1.0)
    warped = Stereo.warp(pair(), Warp.about(SIZE, SIZE, **options, natural=zoom))
    assert warped["side"] == expected["side"]
    assert float(warped["scale"]) == pytest.approx(float(expected["scale"]))
    known = warped["valid"]
    for name_of_view in ("own", "other"):
        difference = (warped[name_of_view].float() - expected[name_of_view].float()).abs().mean(dim=0)
        assert difference[known].median() < 2
    error = (warped["disparity"] / expected["disparity"] - 1).abs()
    assert error[known].median() < 0.005


@pytest.mark.parametrize("zoom", [0.5, 1.0, 1.6])
@pytest.mark.parametrize("size", [SIZE, (96, 200)])
def test_depth_is_scale_over_disparity_before_and_after(zoom: float, size: tuple[int, int]) -> None:
    """The metres are those of the depth annotation, which divides them by the magnification."""
    value, (_, depth) = pair(), rendered(View())
    warp = Warp.about(SIZE, size, zoom=zoom, natural=1.25)
    warped, metres = Stereo.warp(value, warp), Depth.warp(depth, warp)
    known = metres > 0
    torch.testing.assert_close((warped["scale"] / warped["disparity"])[known], metres[known])
    assert torch.equal(known, warped["valid"])


def test_the_views_are_the_image_that_the_network_sees() -> None:
    """Warped bit for bit as the loader warps an image; beyond the image nothing is valid."""
    value, warp = pair(), Warp.about(SIZE, (80, 200), zoom=0.7, flip=True)
    warped = Stereo.warp(value, warp)
    image = warp.sample(value["own"].float(), mode="bilinear", fill=0.0).round().to(torch.uint8)
    assert torch.equal(warped["own"], image)
    assert warped["valid"].any() and not warped["valid"][:, :50].any()
    assert not warped["disparity"][~warped["valid"]].any()


def test_twice_mirrored_is_as_it_was() -> None:
    """Sides included."""
    flip = Warp.about(SIZE, SIZE, flip=True)
    value = pair()
    back = Stereo.warp(Stereo.warp(value, flip), flip)
    assert all(torch.allclose(back[name].float(), value[name].float()) for name in value)


def test_rotations_are_refused() -> None:
    """After one, views are not shifted along rows."""
    with pytest.raises(DataError, match="cannot be rotated.*set degrees: 0"):
        Stereo.warp(pair(), Warp.about(SIZE, SIZE, degrees=10))
    generator = torch.Generator().manual_seed(0)
    Stereo.warp(pair(), RandomWarp().draw(SIZE, SIZE, generator))  # as configured by default


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own": torch.zeros(3, 5, 5, dtype=torch.uint8)}, r"stereo view 'own' must have shape \(3, 96, 128\)"),
        ({"other": torch.zeros(3, *SIZE)}, "stereo view 'other' must be torch.uint8"),
        ({"side": torch.tensor(0.0)}, "side is 1 .* or -1; got 0"),
        ({"scale": torch.tensor(-1.0)}, "scale is metres, 0 where unknown; got -1"),
        ({"scale": torch.tensor(torch.inf)}, "scale is metres"),
        ({"disparity": torch.full(SIZE, torch.nan)}, "not finite at 12288 pixels; mark unknown ones as 0"),
        ({"disparity": torch.full(SIZE, -0.1)}, "negative or not finite"),
        ({"valid": torch.ones(SIZE)}, "valid pixels must be torch.bool"),
        ({"more": torch.ones(SIZE)}, "must be a dict with disparity, other, own"),
    ],
)
def test_broken_pairs_are_refused(change: dict[str, Tensor], message: str) -> None:
    """The error names the part that is wrong."""
    Stereo.check(pair(), SIZE)
    with pytest.raises(DataError, match=message):
        Stereo.check({**pair(), **change}, SIZE)


def test_collating_stacks() -> None:
    """Every part gets a first dimension of rows."""
    batch = Stereo.collate([pair(), pair(side=-1.0)])
    assert {name: tuple(part.shape) for name, part in batch.items()} == {
        "own": (2, 3, *SIZE), "other": (2, 3, *SIZE), "side": (2,), "disparity": (2, *SIZE), "scale": (2,), "valid": (2, *SIZE)
    }  # fmt: skip
    assert batch["side"].tolist() == [1, -1]


def test_the_picture_is_the_disparity_or_else_the_other_view() -> None:
    """Near is more red than blue, unknown is black."""
    image, value = np.zeros((*SIZE, 3), np.uint8), pair()
    value["disparity"][0, 0] = 0
    picture = Stereo.draw(image, value).astype(int)
    near = np.unravel_index(int(value["disparity"].argmax()), SIZE)
    assert picture[near][0] > picture[near][2] and not picture[0, 0].any()
    unknown = Stereo.draw(image, {**value, "disparity": torch.zeros(SIZE)})
    assert np.array_equal(unknown, value["other"].permute(1, 2, 0).numpy())
