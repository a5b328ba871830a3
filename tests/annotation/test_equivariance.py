"""A sphere seen by a pinhole camera has exact labels before and after any warp; the warped labels must be those after.

The oracle never touches `Warp`: it turns and mirrors the sphere in space about the optical axis, multiplies the focal length by
the zoom, moves the principal point, and renders again. Rotations are written with complex numbers and y pointing up, so that a
sign mistake cannot be made twice in the same way.
"""

import cmath
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.annotation import Boxes, ClassMap, Depth, Edges, Normals, Warp

SOURCE = (120, 160)
WARPS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "flip": {"flip": True},
    "rotate 30": {"degrees": 30},
    "rotate -45": {"degrees": -45},
    "quarter turn": {"degrees": 90},
    "half turn": {"degrees": 180},
    "vertical flip": {"degrees": 180, "flip": True},
    "enlarge": {"zoom": 1.7},
    "shrink": {"zoom": 0.5},
    "crop": {"centre": (100.0, 50.0)},
    "enlarge off centre": {"zoom": 2.5, "centre": (110.0, 40.0)},
    "all at once": {"zoom": 0.8, "degrees": 67, "flip": True, "centre": (70.0, 65.0)},
}
every_warp = pytest.mark.parametrize("name", WARPS)


@dataclass(frozen=True)
class View:
    """A sphere before a pinhole camera: centre in metres, x right and y up; focal and principal in pixels.

    In the source image its radius is 40 pixels.
    """

    centre: complex = 0.25 + 0.1j
    distance: float = 3.0
    radius: float = 0.9
    focal: float = 130.0
    principal: tuple[float, float] = (SOURCE[1] / 2, SOURCE[0] / 2)
    size: tuple[int, int] = SOURCE


@dataclass(frozen=True)
class Labels:
    """The exact labels of a view."""

    depth: Tensor
    normals: Tensor
    classes: Tensor
    edges: Tensor
    boxes: Tensor


def rendered(view: View) -> Labels:
    """Casts a ray through every pixel's centre."""
    x = (torch.arange(view.size[1]) + 0.5 - view.principal[0]) / view.focal
    y = (torch.arange(view.size[0]) + 0.5 - view.principal[1]) / view.focal
    rays = torch.stack(torch.broadcast_tensors(x, y[:, None], torch.ones(())), dim=0)
    centre = torch.tensor([view.centre.real, -view.centre.imag, view.distance])[:, None, None]
    square, along = (rays**2).sum(0), (rays * centre).sum(0)
    room = along**2 - square * ((centre**2).sum(0) - view.radius**2)
    hit = room > 0
    depth = (along - room.clamp(min=0).sqrt()) / square
    classes = hit.long()
    rows, columns = hit.nonzero().unbind(dim=1)
    return Labels(
        depth=depth * hit,
        normals=(depth * rays - centre) / view.radius * hit,
        classes=classes,
        edges=outline(classes)[None],
        boxes=torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float(),
    )


def outline(classes: Tensor) -> Tensor:
    """Pixels whose right or lower neighbour is of another class, uint8."""
    right = F.pad(classes[:, :-1] != classes[:, 1:], (0, 1))
    below = F.pad(classes[:-1] != classes[1:], (0, 0, 0, 1))
    return (right | below).to(torch.uint8)


def moved(view: View, warp: dict[str, Any]) -> View:
    """The view whose picture is the warped picture, of the same size, by 3-D geometry alone."""
    zoom, centre = warp.get("zoom", 1.0), warp.get("centre", (SOURCE[1] / 2, SOURCE[0] / 2))
    turn = cmath.exp(1j * math.radians(warp.get("degrees", 0)))

    def turned(point: complex) -> complex:
        return turn * (complex(-point.real, point.imag) if warp.get("flip") else point)

    from_middle = turned(complex(view.principal[0] - centre[0], -(view.principal[1] - centre[1]))) * zoom
    return replace(
        view,
        centre=turned(view.centre),
        focal=view.focal * zoom,
        principal=(view.size[1] / 2 + from_middle.real, view.size[0] / 2 - from_middle.imag),
    )


def warp_of(name: str) -> Warp:
    """The warp under test, into an output of the source's size."""
    return Warp.about(SOURCE, SOURCE, **WARPS[name])


def both(name: str) -> tuple[Labels, Labels]:
    """Labels of the source, and the labels that the warped image should have."""
    return rendered(View()), rendered(moved(View(), WARPS[name]))


def regions(name: str, pixels: float) -> tuple[Tensor, Tensor]:
    """Where the moved sphere is seen if its radius is so many source pixels smaller, and larger: (height, width) bool."""
    view = moved(View(), WARPS[name])
    change = pixels / 40
    smaller, larger = (replace(view, radius=view.radius * (1 + sign * change)) for sign in (-1, 1))
    return rendered(smaller).classes == 1, rendered(larger).classes == 1


def degrees_between(first: Tensor, second: Tensor) -> Tensor:
    """Angles at the pixels where both normals are known, (pixels,)."""
    known = (first.norm(dim=0) > 0) & (second.norm(dim=0) > 0)
    assert known.sum() > 500
    return torch.rad2deg(torch.acos((first * second).sum(0).clamp(-1, 1)))[known]


def distances(from_: Tensor, to: Tensor) -> Tensor:
    """For every boundary pixel of one (height, width) plane, how far the next one of the other is, in pixels."""
    return torch.cdist((from_ == 1).nonzero().double(), (to == 1).nonzero().double()).amin(dim=1)


@every_warp
def test_classes(name: str) -> None:
    """The warped region lies between the moved sphere made smaller by one source pixel and made larger by one."""
    warped = ClassMap.warp(rendered(View()).classes, warp_of(name))
    smaller, larger = regions(name, pixels=1.0)
    assert (warped[smaller] != 0).all()
    assert (warped[~larger] != 1).all()
    assert (warped == 1).sum() > 500


@every_warp
def test_normals(name: str) -> None:
    """Warped normals are those of the moved sphere to the accuracy of one pixel."""
    source, expected = both(name)
    errors = degrees_between(Normals.warp(source.normals, warp_of(name)), expected.normals)
    assert errors.mean() < 1.5
    assert errors.quantile(0.95) < 5.0


@pytest.mark.parametrize(
    ("name", "wrong_rule"),
    [
        ("rotate 30", torch.eye(2)),
        ("flip", torch.eye(2)),
        ("vertical flip", torch.eye(2)),
        ("rotate 30", torch.tensor([[math.cos(math.pi / 6), -0.5], [0.5, math.cos(math.pi / 6)]])),
        ("quarter turn", torch.tensor([[0.0, -1.0], [1.0, 0.0]])),
    ],
    ids=["rotation ignored", "flip ignored", "vertical flip ignored", "y up", "quarter turn the wrong way"],
)
def test_normals_would_show_a_wrong_rule(name: str, wrong_rule: Tensor) -> None:
    """Control: treating normals as colours, or turning them the wrong way, is off by ten times the bound."""
    source, expected = both(name)
    moved_only = warp_of(name).sample(source.normals, mode="nearest", fill=0)
    wrong = torch.cat([torch.einsum("ij,jhw->ihw", wrong_rule, moved_only[:2]), moved_only[2:]])
    assert degrees_between(wrong, expected.normals).mean() > 15


@every_warp
def test_depth(name: str) -> None:
    """Warped depth times the zoom is the depth that the camera of longer focal length sees."""
    source, expected = both(name)
    warp = warp_of(name)
    warped = Depth.warp(source.depth, warp) * warp.zoom
    known = (warped > 0) & (expected.depth > 0)
    assert known.sum() > 500
    error = ((warped - expected.depth).abs() / expected.depth)[known]
    assert error.median() < 0.003
    assert error.quantile(0.95) < 0.03


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_depth_is_that_of_a_nearer_object_to_the_same_camera(zoom: float) -> None:
    """A small, far sphere enlarged by z looks, and measures, like the same sphere z times as near.

    Dividing is the only rule that passes: keeping the depth, or multiplying it, is off by a factor of two or four.
    """
    far = View(centre=0j, distance=40.0, radius=0.9, focal=1500.0)
    near = replace(far, distance=far.distance / zoom)
    warped = Depth.warp(rendered(far).depth, Warp.about(SOURCE, SOURCE, zoom=zoom))
    expected = rendered(near).depth
    known = (warped > 0) & (expected > 0)
    assert known.sum() > 0.95 * (expected > 0).sum()
    assert ((warped / expected)[known] - 1).abs().max() < 0.04


@every_warp
def test_edges(name: str) -> None:
    """The warped outline runs along the moved sphere's without gaps, and nowhere but in a narrow band around it."""
    source, expected = both(name)
    warp = warp_of(name)
    warped = Edges.warp(source.edges, warp)[0]
    true = torch.where(warped == 255, 255, expected.edges[0])
    assert distances(true, warped).max() <= 1.5 * max(1.0, warp.zoom)
    smaller, larger = regions(name, pixels=1.5 + 1 / warp.zoom)
    assert (warped[smaller | ~larger] != 1).all()


@every_warp
def test_boxes(name: str) -> None:
    """Without rotation the warped box is the moved sphere's; under rotation it holds it, wider by at most |cos| + |sin|."""
    source, expected = both(name)
    warp = warp_of(name)
    value = {"boxes": source.boxes[None], "classes": torch.tensor([0]), "ignore": torch.tensor([False])}
    warped = Boxes.warp(value, warp)["boxes"][0]
    angle = math.radians(WARPS[name].get("degrees", 0))
    wider = abs(math.cos(angle)) + abs(math.sin(angle)) - 1
    # A box of whole pixels may be one source pixel larger than the sphere on either side, and enlarges with it.
    slack = 1.0 + warp.zoom
    grown = wider * (source.boxes[2:] - source.boxes[:2]).max() * warp.zoom / 2
    inward = torch.cat([expected.boxes[:2] - warped[:2], warped[2:] - expected.boxes[2:]])
    assert inward.min() >= -slack
    assert inward.max() <= slack + grown


@every_warp
def test_there_and_back(name: str) -> None:
    """Warped and warped back, normals and depth are what they were, to the accuracy of a pixel of the smaller image."""
    source = rendered(View())
    warp = warp_of(name)
    back = warp.inverse(SOURCE)
    errors = degrees_between(Normals.warp(Normals.warp(source.normals, warp), back), source.normals)
    assert errors.mean() < 2.0
    depth = Depth.warp(Depth.warp(source.depth, warp), back)
    known = (depth > 0) & (source.depth > 0)
    assert ((depth / source.depth)[known] - 1).abs().median() < 0.004


@pytest.mark.parametrize("second", ["flip", "rotate -45", "shrink", "all at once"])
@pytest.mark.parametrize("first", ["vertical flip", "rotate 30", "enlarge"])
def test_one_after_the_other_is_both_at_once(first: str, second: str) -> None:
    """Two warps in a row give the labels of the one warp they compose to, flips that meet rotations included."""
    source = rendered(View())
    one, two = warp_of(first), warp_of(second)
    in_turn = Normals.warp(Normals.warp(source.normals, one), two)
    errors = degrees_between(in_turn, Normals.warp(source.normals, one.then(two)))
    assert errors.mean() < 2.0
    depths = Depth.warp(Depth.warp(source.depth, one), two), Depth.warp(source.depth, one.then(two))
    known = (depths[0] > 0) & (depths[1] > 0)
    assert ((depths[0] / depths[1])[known] - 1).abs().median() < 0.004
