"""Image files as tensors, without the quiet conversions of image libraries.

Pixels are taken as they are stored: an EXIF orientation is ignored, since annotations refer to the stored raster. Only a photo
without annotations may be turned upright.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from ubertrain.data.blame import blame
from ubertrain.errors import DataError

_EIGHT_BIT = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


def read_image(path: Path, *, upright: bool = False) -> Tensor:
    """The picture in `path`, (3, height, width) uint8, RGB; grey and CMYK are converted, transparency is dropped.

    Args:
        path: the file.
        upright: whether to turn it as its EXIF orientation says, as image viewers do with a phone's photos.

    Raises:
        DataError: the file is missing or damaged, or holds more than 8 bits a channel.
    """
    with blame(path):
        image = _open(path)
        if upright:
            image = ImageOps.exif_transpose(image)
        if image.mode not in _EIGHT_BIT:
            raise DataError(f"pixels of type {image.mode}, where an 8-bit image is expected; convert it to 8 bit first")
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_ids(path: Path) -> Tensor:
    """The class ids in a one-channel PNG, (height, width) int64; a palette is only for display and ignored.

    Raises:
        DataError: the file is missing or damaged, or has several channels.
    """
    with blame(path):
        image = _open(path)
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise DataError(f"pixels of type {image.mode}, where one class id per pixel is expected (grey or palette PNG)")
        return torch.from_numpy(np.array(image).astype(np.int64))


def read_lines(path: Path) -> Tensor:
    """White lines on black, (height, width) uint8: 1 where the picture is not black.

    Raises:
        DataError: as `read_ids`, or more than half of it is not black, as where the lines are; names the file.
    """
    lines = (read_ids(path) > 0).to(torch.uint8)
    if lines.float().mean() > 0.5:
        raise DataError(f"{path}: more than half of it is a boundary; expected white lines on black")
    return lines


def read_mask(path: Path) -> Tensor:
    """The pixels of a black and white picture that are marked, (height, width) int64 of 0 and 1.

    A pixel is marked from 128 of 255 on; in a picture that holds 0 and 1 alone, where it is 1.

    Raises:
        DataError: the file is missing or damaged, has colours, or is dark everywhere without being black, as class ids are.
    """
    red, green, blue = read_image(path).long()
    with blame(path):
        if not (torch.equal(red, green) and torch.equal(red, blue)):
            raise DataError("has colours, where a black and white mask is expected")
        brightest = int(red.max()) if red.numel() else 0
        if 1 < brightest < 128:
            raise DataError(f"its brightest pixel is {brightest}; a mask marks pixels with 128 to 255, or with 1 alone")
        return (red >= (1 if brightest == 1 else 128)).long()


def read_depth(path: Path, scale: float) -> Tensor:
    """The depth in a 16-bit grey PNG, (height, width) float32 metres; 0 and 65535 mean no reading and give 0.

    Args:
        path: the file.
        scale: stored units per metre, e.g. 1000 for millimetres.

    Raises:
        DataError: the file is missing or damaged, or is not 16-bit grey.
    """
    with blame(path):
        image = _open(path)
        if image.mode not in ("I", "I;16", "I;16B"):
            raise DataError(f"pixels of type {image.mode}, where a 16-bit grey depth map is expected")
        stored = np.array(image).astype(np.float32)
        stored[stored == 65535] = 0
        return torch.from_numpy(stored / np.float32(scale))


def read_grey(path: Path) -> Tensor:
    """The brightness in a grey picture, (height, width) float32 from 0 to 1, of 1, 8 or 16 bits.

    A picture in colours whose three channels are the same is grey, too.

    Raises:
        DataError: the file is missing or damaged, or shows colours.
    """
    with blame(path):
        image = _open(path)
        if image.mode == "1":
            return torch.from_numpy(np.array(image)).float()
        if image.mode in ("I", "I;16", "I;16B"):
            return torch.from_numpy(np.array(image).astype(np.float32)) / 65535
        if image.mode in ("P", "RGB", "LA", "RGBA"):
            red, green, blue = np.moveaxis(np.array(image.convert("RGB")), -1, 0)
            if not ((red == green) & (green == blue)).all():
                raise DataError("shows colours, where a grey picture is expected")
            return torch.from_numpy(red / np.float32(255))
        if image.mode != "L":
            raise DataError(f"pixels of type {image.mode}, where a grey picture is expected")
        return torch.from_numpy(np.array(image)).float() / 255


def read_normals(path: Path) -> Tensor:
    """The normals in an RGB image of 8 or 16 bits, (3, height, width) float32 unit vectors; zero = unknown.

    n = 2 v / 255 - 1, or 2 v / 65535 - 1. Black marks the unknown in some sets and mid grey in others; neither is near a unit
    vector, so both are recognised.

    Raises:
        DataError: the file is missing or damaged, or is not RGB.
    """
    stored, most = read_rgb(path)
    vectors = stored * (2 / most) - 1
    length = vectors.square().sum(dim=0).sqrt()
    known = (length > 0.5) & (stored > 0).any(dim=0)
    return torch.where(known, vectors / length.clamp_min(0.5), 0.0)


def read_rgb(path: Path) -> tuple[Tensor, int]:
    """The numbers in an RGB file as they are stored, (3, height, width) float32, and the largest there could be.

    That is 255, or 65535 for a PNG of 16 bits a channel, of which image libraries show the upper 8 without a word.

    Raises:
        DataError: the file is missing or damaged, or is not RGB.
    """
    with blame(path):
        with _opened(path) as header:
            deep, form = _is_deep(header), header.format
        if deep and form == "PNG":
            upper, lower = (_half(path, raw) for raw in _HALVES)
            return 256 * upper + lower, 65535
        image = _open(path)
        if image.mode != "RGB":
            raise DataError(f"pixels of type {image.mode}, where RGB of 8 or 16 bits a channel is expected")
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float(), 255


_HALVES = ("RGB;16B", "RGB;16L")
"""How to tell the decoder which byte of a channel to take: the first, which in a PNG is the upper one, or the second."""


def _open(path: Path) -> Image.Image:
    with _opened(path) as image:
        deep = _is_deep(image)
        image.load()
    if deep:
        raise DataError("16 bits a channel would be cut to 8 unnoticed; convert it to 8 bit (or to .npy for labels) first")
    return image


def _half(path: Path, raw: str) -> Tensor:
    """(3, height, width) float32 of one byte of each channel."""
    with _opened(path) as image:
        if image.mode != "RGB":
            raise DataError(f"pixels of type {image.mode}, where RGB is expected")
        image.tile = [tile._replace(args=raw) for tile in image.tile]
        return torch.from_numpy(np.array(image).astype(np.float32)).permute(2, 0, 1).contiguous()


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether a file that is not yet decoded has more than 8 bits a channel, of which PIL keeps 8."""
    return image.mode in ("RGB", "RGBA") and "16" in str([tile[3] for tile in image.tile])


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The file, opened; whatever a decoder raises inside becomes a `DataError`."""
    if not path.is_file():
        raise DataError("there is no such file")
    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged bytes: OSError, SyntaxError, struct.error, ...
        raise DataError(f"cannot be decoded as an image ({error})") from error
