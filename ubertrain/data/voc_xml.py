"""Annotations of objects as PASCAL VOC writes them, one XML file for each image."""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from ubertrain.data.blame import blame
from ubertrain.errors import DataError


class Thing(NamedTuple):
    """An object: its class, x0 y0 x1 y1 as they are stored, in pixels counted from 1 with both ends in the box, and a flag."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


def read_things(file: Path) -> list[Thing]:
    """The objects in an annotation, in its order.

    Raises:
        DataError: the file is missing, no XML, or an object lacks its name or its box.
    """
    with blame(file):
        try:
            return [_thing(element) for element in ElementTree.parse(file).iterfind("object")]
        except (ElementTree.ParseError, LookupError, OSError, ValueError) as error:
            raise DataError(f"is not an annotation of VOC ({error})") from error


def _thing(element: ElementTree.Element) -> Thing:
    x0, y0, x1, y1 = (float(_text(element, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    return Thing(_text(element, "name"), (x0, y0, x1, y1), element.findtext("difficult", "0").strip() == "1")


def _text(element: ElementTree.Element, path: str) -> str:
    """The text at `path`; raises ValueError where there is none."""
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"an object without {path}")
    return text.strip()
