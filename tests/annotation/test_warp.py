import math

import pytest
import torch
from torch import Tensor

from ubertrain.annotation.warp import Warp
from ubertrain.errors import DataError


def pixels(height: int, width: int, channels: int = 2) -> Tensor:
    """An int64 array in which every entry is different."""
    return torch.arange(channels * height * width).reshape(channels, height, width)


def points_of(warp: Warp, *points: tuple[float, float]) -> list[tuple[float, float]]:
    """Where source points go, as plain numbers."""
    moved = warp.points(torch.tensor(points, dtype=torch.float64))
    return [(pytest.approx(x, abs=1e-9), pytest.approx(y, abs=1e-9)) for x, y in moved.tolist()]


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (37, 101)])
def test_doing_nothing_returns_every_pixel(size: tuple[int, int]) -> None:
    """The warp about the middle without zoom, rotation or flip is the identity, bit for bit."""
    values = pixels(*size)
    assert torch.equal(Warp.about(size, size).sample(values, mode="nearest", fill=-1), values)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (37, 101)])
def test_flip_is_torch_flip(size: tuple[int, int]) -> None:
    """A flip exchanges columns exactly, on even and odd widths."""
    values = pixels(*size)
    assert torch.equal(Warp.about(size, size, flip=True).sample(values, mode="nearest", fill=-1), values.flip(2))


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
@pytest.mark.parametrize("size", [(6, 6), (7, 7), (4, 6), (37, 100)])
def test_quarter_turns_are_rot90(turns: int, size: tuple[int, int]) -> None:
    """A rotation by 90 degrees counter-clockwise is `torch.rot90`, exactly, also where it exchanges height and width."""
    values = pixels(*size)
    output = size if turns % 2 == 0 else (size[1], size[0])
    warp = Warp.about(size, output, degrees=90 * turns)
    assert torch.equal(warp.sample(values, mode="nearest", fill=-1), torch.rot90(values, turns, (1, 2)))


def test_flip_comes_before_the_rotation() -> None:
    """A flip with a quarter turn is the flipped image turned."""
    values, warp = pixels(6, 6), Warp.about((6, 6), (6, 6), degrees=90, flip=True)
    assert torch.equal(warp.sample(values, mode="nearest", fill=-1), torch.rot90(values.flip(2), 1, (1, 2)))


def test_the_first_pixel_has_its_centre_at_a_half() -> None:
    """Zooming twice about the corner of the image puts the corner at 0 and the first pixel's centre at 1."""
    warp = Warp.about((4, 4), (8, 8), zoom=2)
    assert points_of(warp, (0, 0), (0.5, 0.5), (4, 4)) == [(0.0, 0.0), (1.0, 1.0), (8.0, 8.0)]


def test_zoom_by_a_whole_number_repeats_pixels() -> None:
    """Enlarging three times shows each pixel as a block of 3 x 3."""
    values = pixels(4, 5)
    enlarged = Warp.about((4, 5), (12, 15), zoom=3).sample(values, mode="nearest", fill=-1)
    assert torch.equal(enlarged, values.repeat_interleave(3, 1).repeat_interleave(3, 2))


def test_centre_is_what_the_middle_of_the_output_shows() -> None:
    """The crop about a point shows that point in its middle, whatever the zoom, rotation and flip."""
    warp = Warp.about((40, 60), (10, 20), zoom=1.7, degrees=25, flip=True, centre=(13.0, 8.0))
    assert points_of(warp, (13.0, 8.0)) == [(10.0, 5.0)]


def test_crop_cuts_out_the_rectangle_around_its_centre() -> None:
    """A crop without zoom is a slice."""
    values = pixels(20, 30)
    crop = Warp.about((20, 30), (6, 8), centre=(14.0, 9.0)).sample(values, mode="nearest", fill=-1)
    assert torch.equal(crop, values[:, 6:12, 10:18])


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "max"])
def test_outside_of_the_image_is_filled(mode: str) -> None:
    """Exactly the output pixels beyond the image's border get the fill value."""
    warp = Warp.about((4, 4), (8, 8))
    result = warp.sample(torch.ones(1, 4, 4), mode=mode, fill=9)[0]
    expected = torch.full((8, 8), 9.0)
    expected[2:6, 2:6] = 1
    assert torch.equal(result, expected)


@pytest.mark.parametrize(("source", "size", "zoom"), [((10, 20), (40, 40), 2.0), ((40, 10), (20, 20), 0.5)])
def test_fit_shows_the_whole_image_centred(source: tuple[int, int], size: tuple[int, int], zoom: float) -> None:
    """The longer side fills the output, the shorter is centred."""
    warp = Warp.fit(source, size)
    middle = (size[1] / 2, size[0] / 2)
    assert warp.zoom == pytest.approx(zoom)
    assert points_of(warp, (source[1] / 2, source[0] / 2)) == [middle]


@pytest.mark.parametrize("flip", [False, True])
def test_zoom_and_mirroring_can_be_read_off(flip: bool) -> None:
    """`zoom` and `mirrored` are what the warp was made with, at any angle."""
    warp = Warp.about((30, 40), (50, 60), zoom=1.3, degrees=70, flip=flip)
    assert warp.zoom == pytest.approx(1.3)
    assert warp.mirrored is flip


def test_inverse_brings_every_point_back() -> None:
    """A point warped and warped back is where it was."""
    warp = Warp.about((30, 40), (50, 60), zoom=1.3, degrees=70, flip=True, centre=(3.0, 5.0))
    points = torch.rand(100, 2, dtype=torch.float64) * 40
    assert torch.allclose(warp.inverse().points(warp.points(points)), points, atol=1e-10)


def test_inverse_can_restore_the_image() -> None:
    """An enlarged, mirrored and turned image, warped back to the source's size, is the source."""
    values, warp = pixels(12, 18), Warp.about((12, 18), (54, 36), zoom=3, degrees=90, flip=True)
    enlarged = warp.sample(values, mode="nearest", fill=-1)
    assert torch.equal(warp.inverse((12, 18)).sample(enlarged, mode="nearest", fill=-1), values)


def test_magnifications_multiply_and_invert() -> None:
    """What looks twice as near and then three times looks six times as near, and the way back undoes it."""
    first, second = Warp.about((8, 8), (8, 8), zoom=4, natural=2), Warp.about((8, 8), (8, 8), zoom=0.3, natural=0.1)
    assert first.then(second).magnification == pytest.approx(6)
    assert first.inverse().magnification == pytest.approx(1 / 2)


def test_two_warps_in_a_row_are_one() -> None:
    """`then` sends points where the two warps send them one after the other."""
    first = Warp.about((30, 40), (50, 60), zoom=1.3, degrees=70, flip=True)
    second = Warp.about((50, 60), (20, 20), zoom=0.4, degrees=-20, centre=(20.0, 10.0))
    points = torch.rand(100, 2, dtype=torch.float64) * 40
    both = first.then(second)
    assert both.size == (20, 20)
    assert torch.allclose(both.points(points), second.points(first.points(points)), atol=1e-10)


def test_sources_undo_points() -> None:
    """The source point that an output pixel shows is sent to that pixel's centre."""
    warp = Warp.about((30, 40), (5, 7), zoom=0.3, degrees=33, flip=True)
    back = warp.points(warp.sources(torch.float64))
    rows, columns = torch.meshgrid(torch.arange(5) + 0.5, torch.arange(7) + 0.5, indexing="ij")
    assert torch.allclose(back, torch.stack([columns, rows], dim=-1).double(), atol=1e-10)


@pytest.mark.parametrize("degrees", [0, 20])
def test_bilinear_follows_a_slope_exactly(degrees: float) -> None:
    """Where brightness is a linear function of position, interpolation gives its exact values inside the image."""
    size = (40, 50)
    warp = Warp.about(size, (16, 16), zoom=1.4, degrees=degrees)
    ramp = 0.3 * (torch.arange(50.0) + 0.5) + 0.7 * (torch.arange(40.0) + 0.5)[:, None]
    x, y = warp.sources().unbind(dim=-1)
    assert torch.allclose(warp.sample(ramp[None], mode="bilinear", fill=0)[0], 0.3 * x + 0.7 * y, atol=1e-4)


@pytest.mark.parametrize("factor", [2, 4])
def test_bilinear_shrinking_averages_blocks(factor: int) -> None:
    """Shrinking by a whole factor gives the mean of each block, so that fine patterns turn grey and do not flicker."""
    values = torch.rand(3, 24, 32)
    warp = Warp.fit((24, 32), (24 // factor, 32 // factor))
    means = values.unflatten(2, (-1, factor)).unflatten(1, (-1, factor)).mean(dim=(2, 4))
    assert torch.allclose(warp.sample(values, mode="bilinear", fill=0), means, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_max_shrinking_takes_the_largest_of_each_block(factor: int) -> None:
    """Shrinking by a whole factor gives the maximum of each block, on even and odd factors."""
    values = torch.rand(3, 24, 36)
    warp = Warp.fit((24, 36), (24 // factor, 36 // factor))
    largest = values.unflatten(2, (-1, factor)).unflatten(1, (-1, factor)).amax(dim=(2, 4))
    assert torch.equal(warp.sample(values, mode="max", fill=0), largest)


@pytest.mark.parametrize("zoom", [1.0, 0.8, 0.5, 0.37, 0.2])
@pytest.mark.parametrize("degrees", [0, 17, 45, -80])
def test_max_overlooks_no_pixel(zoom: float, degrees: float) -> None:
    """Each source pixel that the output covers is under some output pixel, so a single bright pixel always survives."""
    source, size = (31, 31), (40, 40)
    warp = Warp.about(source, size, zoom=zoom, degrees=degrees)
    generator = torch.Generator().manual_seed(3)
    for place in torch.randint(5, 26, (20, 2), generator=generator).tolist():
        values = torch.zeros(1, *source)
        values[0, place[0], place[1]] = 1
        assert warp.sample(values, mode="max", fill=0).max() == 1


@pytest.mark.parametrize("zoom", [0.8, 0.6, 0.45, 0.3])
def test_max_leaves_things_in_their_place(zoom: float) -> None:
    """On average over all its places, a bright pixel appears where the warp sends it, not to one side."""
    warp, size = Warp.about((41, 41), (41, 41), zoom=zoom), (41, 41)
    shifts = []
    for column in range(5, 36):
        values = torch.zeros(1, *size)
        values[0, 20, column] = 1
        seen = warp.sample(values, mode="max", fill=0)[0].nonzero()[:, 1].float().mean() + 0.5
        shifts.append(seen - warp.points(torch.tensor([column + 0.5, 20.5]))[0])
    assert torch.stack(shifts).mean().abs() < 0.1


def test_max_without_shrinking_is_nearest() -> None:
    """Enlarging does not thicken anything."""
    values, warp = pixels(20, 20), Warp.about((20, 20), (30, 30), zoom=1.5)
    assert torch.equal(warp.sample(values, mode="max", fill=-1), warp.sample(values, mode="nearest", fill=-1))


@pytest.mark.parametrize(
    "matrix",
    [
        ((2.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
        ((1.0, 0.3, 0.0), (0.0, 1.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (0.0, math.nan, 0.0)),
    ],
    ids=["stretches", "shears", "collapses", "is not a number"],
)
def test_anything_but_a_similarity_is_refused(matrix: tuple[tuple[float, float, float], tuple[float, float, float]]) -> None:
    """A warp under which depth and normals would have no rule cannot be made."""
    with pytest.raises(DataError, match="only rotates"):
        Warp(matrix, (4, 4))
