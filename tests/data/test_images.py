"""Decoding of image files, against pixels that were written."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.stubs import cut_short, picture
from ubertrain.data.images import read_depth, read_grey, read_ids, read_image, read_mask, read_normals, read_rgb
from ubertrain.errors import DataError


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 7), (10, 20, 30)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 5), (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
    ],
)
def test_every_8_bit_image_becomes_rgb(tmp_path: Path, mode: str, colour: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Grey, transparent and CMYK images come as three channels, height before width."""
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new(mode, (4, 3), colour).save(path)
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 3, 4)
    assert image[:, 0, 0].tolist() == list(expected)


def test_palette_images_become_their_colours(tmp_path: Path) -> None:
    """A palette image, also one with transparent entries, is read in its colours and without a warning."""
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "image.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "image.png")[:, 2, 3].tolist() == [200, 100, 50]


def test_orientation_is_ignored(tmp_path: Path) -> None:
    """An EXIF orientation does not turn the raster that the annotations refer to."""
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to display"
    Image.new("RGB", (8, 4)).save(tmp_path / "image.jpg", exif=exif)
    assert read_image(tmp_path / "image.jpg").shape == (3, 4, 8)


def test_a_photo_can_be_turned_upright(tmp_path: Path) -> None:
    """What EXIF says is above is above, where no annotation stands against it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (8, 4))
    image.paste((255, 255, 255), (0, 0, 4, 4))  # the left half, which is above after a quarter turn clockwise
    image.save(tmp_path / "image.png", exif=exif)
    upright = read_image(tmp_path / "image.png", upright=True)
    assert upright.shape == (3, 8, 4)
    assert upright[0].float().mean(dim=1).tolist() == [255] * 4 + [0] * 4


def test_grey_pixels_keep_their_values(tmp_path: Path) -> None:
    """Class ids are the stored numbers, whatever palette shows them."""
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(ids)
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(tmp_path / "ids.png")
    with Image.open(tmp_path / "ids.png") as stored:
        assert stored.mode == "P"
    assert torch.equal(read_ids(tmp_path / "ids.png"), torch.from_numpy(ids.astype(np.int64)))


def test_depth_is_metres_and_zero_where_unknown(tmp_path: Path) -> None:
    """16-bit millimetres become metres; both marks for "no reading" become 0."""
    Image.fromarray(np.array([[0, 1500, 65535, 65534]], dtype=np.uint16)).save(tmp_path / "depth.png")
    assert read_depth(tmp_path / "depth.png", 1000).tolist() == [[0, 1.5, 0, pytest.approx(65.534)]]


def test_normals_are_unit_and_zero_where_unknown(tmp_path: Path) -> None:
    """8-bit normals come back as unit vectors within their rounding; black and mid grey are unknown."""
    exact = np.array([[0.6, 0.0, -0.8], [0.0, 0.8, -0.6], [0.0, 0.0, -1.0]])
    stored = np.concatenate([np.round((exact + 1) / 2 * 255), [[0, 0, 0], [127, 127, 127], [128, 128, 128]]]).astype(np.uint8)
    Image.fromarray(stored[None]).save(tmp_path / "normals.png")
    normals = read_normals(tmp_path / "normals.png")[:, 0].T
    assert normals[:3].norm(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-6)
    assert (normals[:3] - torch.from_numpy(exact)).abs().max() < 0.01
    assert normals[3:].abs().max() == 0


@pytest.mark.parametrize("read", [read_image, read_ids])
def test_16_bit_colour_is_refused(data_root: Path, read: object) -> None:
    """A 48-bit PNG, which decoders cut to 8 bits without a word, is an error that names the file and says what to do."""
    path = data_root / "MIT-Berkeley-Laboratory" / "apple" / "diffuse.png"
    with pytest.raises(DataError, match=rf"{re.escape(str(path))}: 16 bits a channel .* convert it to 8 bit"):
        read(path)


@pytest.mark.parametrize(
    ("mode", "value", "expected"), [("L", 51, 0.2), ("1", 1, 1.0), ("I;16", 13107, 0.2), ("RGB", (51, 51, 51), 0.2)]
)
def test_grey_is_from_0_to_1(tmp_path: Path, mode: str, value: object, expected: float) -> None:
    """Pictures of 1, 8 and 16 bits, and colours that are grey, show the same brightness."""
    Image.new(mode, (4, 3), value).save(tmp_path / "grey.png")  # type: ignore[arg-type]
    grey = read_grey(tmp_path / "grey.png")
    assert grey.shape == (3, 4)
    assert grey.unique().tolist() == pytest.approx([expected])


def test_colours_are_not_grey(tmp_path: Path) -> None:
    """One pixel of colour is enough."""
    values = np.full((3, 4, 3), 7, np.uint8)
    values[2, 1, 0] = 8
    Image.fromarray(values).save(tmp_path / "photo.png")
    with pytest.raises(DataError, match=r"photo.png: shows colours, where a grey picture is expected"):
        read_grey(tmp_path / "photo.png")


def write_png16(path: Path, values: np.ndarray) -> None:
    """Write (height, width, 3) uint16 as a PNG whose lines are stored plain and as differences by turns."""
    height, width, _ = values.shape
    lines = values.astype(">u2").view(np.uint8).reshape(height, -1)
    above = np.concatenate([np.zeros_like(lines[:1]), lines[:-1]])
    rows = [bytes([2 * (y % 2)]) + (lines[y] - (y % 2) * above[y]).tobytes() for y in range(height)]

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b""))


def test_16_bit_colour_keeps_its_lower_half(tmp_path: Path) -> None:
    """Every number of a 48-bit PNG, which decoders cut to 8 bits without a word, comes back; so does every 8-bit one."""
    values = np.random.default_rng(0).integers(0, 2**16, (7, 5, 3), dtype=np.uint16)
    write_png16(tmp_path / "deep.png", values)
    stored, most = read_rgb(tmp_path / "deep.png")
    assert most == 65535
    assert torch.equal(stored, torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1))
    Image.fromarray((values >> 8).astype(np.uint8)).save(tmp_path / "flat.png")
    stored, most = read_rgb(tmp_path / "flat.png")
    assert most == 255
    assert torch.equal(stored, torch.from_numpy((values >> 8).astype(np.float32)).permute(2, 0, 1))


def test_published_16_bit_flow_is_read_whole(data_root: Path) -> None:
    """KITTI's flow has u = (red - 2^15) / 64 where blue is 1: 16 % of the pixels, all of a plausible length; else nothing."""
    red, green, blue = read_rgb(data_root / "KITTI-flow-sample" / "flow_gt.png")[0]
    assert set(blue.unique().tolist()) == {0, 1}
    assert float(blue.mean()) == pytest.approx(0.162, abs=5e-4)
    u, v = ((channel[blue == 1] - 2**15) / 64 for channel in (red, green))
    assert max(u.abs().max(), v.abs().max()) < 200
    assert set(red[blue == 0].unique().tolist()) <= {0, 2**15}


def test_16_bit_normals_are_finer(tmp_path: Path) -> None:
    """Normals of 16 bits are within 1e-4 of what was stored, a hundredth of what 8 bits leave."""
    exact = np.random.default_rng(0).normal(size=(6, 4, 3))
    exact /= np.linalg.norm(exact, axis=-1, keepdims=True)
    write_png16(tmp_path / "normals.png", np.round((exact + 1) / 2 * 65535).astype(np.uint16))
    assert np.abs(read_normals(tmp_path / "normals.png").permute(1, 2, 0).numpy() - exact).max() < 1e-4


@pytest.mark.parametrize(
    ("read", "mode", "expected"),
    [
        (read_image, "I;16", "an 8-bit image is expected"),
        (read_image, "F", "an 8-bit image is expected"),
        (read_ids, "RGB", "one class id per pixel is expected"),
        (lambda path: read_depth(path, 1000), "L", "16-bit grey depth map is expected"),
        (read_normals, "L", "RGB of 8 or 16 bits a channel is expected"),
    ],
)
def test_pixels_of_another_type_are_refused(tmp_path: Path, read: object, mode: str, expected: str) -> None:
    """A file of another pixel type than the label needs names itself, what it is and what is expected."""
    path = tmp_path / "file.tif"
    Image.new(mode, (4, 3)).save(path)
    with pytest.raises(DataError, match=rf"file.tif: pixels of type {mode}, where .*{expected}"):
        read(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.6, 0.97])
def test_damaged_files_name_themselves(tmp_path: Path, suffix: str, part: float) -> None:
    """A file that was cut short, anywhere, is an error that names it; never a half grey image."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole{suffix}")
    path = cut_short(tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}", part)
    with pytest.raises(DataError, match=f"cut{suffix}: cannot be decoded as an image"):
        read_image(path)


def test_missing_files_name_themselves(tmp_path: Path) -> None:
    """A file that is not there is an error that names it; a folder is no file."""
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"b.png: there is no such file"):
        read_image(tmp_path / "b.png")
    with pytest.raises(DataError, match="there is no such file"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("stored", "mode", "marked"),
    [
        ([[0, 127, 128, 255]], "L", [[0, 0, 1, 1]]),
        ([[0, 127, 128, 255]], "RGB", [[0, 0, 1, 1]]),
        ([[0, 0, 255, 255]], "1", [[0, 0, 1, 1]]),
        ([[0, 1, 1, 0]], "L", [[0, 1, 1, 0]]),
        ([[0, 0, 0, 0]], "L", [[0, 0, 0, 0]]),
    ],
)
def test_masks_are_black_and_white(tmp_path: Path, stored: list[list[int]], mode: str, marked: list[list[int]]) -> None:
    """Grey, bilevel or with three equal channels; from the middle on, or where 1 is all there is, 1."""
    Image.fromarray(np.array(stored, np.uint8)).convert(mode).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == marked


@pytest.mark.parametrize(("pixel", "message"), [((20, 20, 20), "brightest pixel is 20"), ((0, 255, 0), "has colours")])
def test_what_is_no_mask_is_refused(tmp_path: Path, pixel: tuple[int, int, int], message: str) -> None:
    """Class ids and pictures with colours would be read as an empty or a strange mask."""
    Image.new("RGB", (3, 2), pixel).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=f"mask.png: .*{message}"):
        read_mask(tmp_path / "mask.png")
