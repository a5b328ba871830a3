"""The true boxes of a data set: COCO's JSON, VOC's XML, or a text file per image."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ubertrain.data.blame import blame
from ubertrain.data.voc import CLASSES
from ubertrain.data.voc_xml import read_things
from ubertrain.errors import DataError
from ubertrain.scoring.box_rows import Box, Layout, Pixels, TrueBoxes, make_box, read_lines, read_numbers
from ubertrain.scoring.pairs import by_id

_LINE = "class x0 y0 x1 y1 (or x y width height), and perhaps the word difficult"


def read_truth(path: Path, *, classes: Sequence[str] | None, layout: Layout, pixels: Pixels | None) -> TrueBoxes:
    """The truth in `path`, whose form is told by its files: a .json, or a folder of .xml or of .txt.

    Args:
        path: `instances_*.json`, VOC's folder Annotations, or a folder with a text file for each image whose lines are
            `class x0 y0 x1 y1`, and perhaps the word difficult.
        classes: names in the order of their ids; None: those of the JSON, VOC's if all are VOC's, or those that occur, sorted.
        layout: of text files.
        pixels: of text files ("edges" unless said) and of XML ("from_1" unless said).

    Raises:
        DataError: names the file and the line.
    """
    if path.is_file():
        return _from_json(path)
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder; it should hold the truth")
    kinds = {".xml", ".txt"} & {file.suffix.lower() for file in path.rglob("*")}
    if len(kinds) != 1:
        found = "both .xml and .txt" if kinds else "neither .xml nor .txt files"
        raise DataError(f"{path}: holds {found}; the truth is an instances JSON of COCO, or a folder of one of these")
    suffix = kinds.pop()
    files = by_id(path, (suffix,), "truth")
    named = {name: (_xml if suffix == ".xml" else _txt)(file, layout, pixels) for name, file in files.items()}
    words = {word for boxes in named.values() for word, _ in boxes}
    names = tuple(classes) if classes is not None else CLASSES if words <= set(CLASSES) else _sorted(words)
    truth = TrueBoxes(names, {}, {}, {})
    images = {
        name: [box._replace(kind=truth.kind(word, str(files[name]))) for word, box in boxes] for name, boxes in named.items()
    }
    return TrueBoxes(names, images, {}, {})


def _sorted(words: set[str]) -> tuple[str, ...]:
    """Names by the alphabet, or, where all are ids, every id up to the highest."""
    if words and all(word.isdecimal() for word in words):
        return tuple(map(str, range(1 + max(map(int, words)))))
    return tuple(sorted(words))


def _xml(file: Path, _: Layout, pixels: Pixels | None) -> list[tuple[str, Box]]:
    return [
        (thing.name, make_box(0, thing.corners, float(thing.difficult), "xyxy", pixels or "from_1", f"{file}, object {number}"))
        for number, thing in enumerate(read_things(file), 1)
    ]


def _txt(file: Path, layout: Layout, pixels: Pixels | None) -> list[tuple[str, Box]]:
    boxes = []
    for where, words in read_lines(file):
        difficult = words[-1] == "difficult"
        words = words[:-1] if difficult else words
        if len(words) < 5:
            raise DataError(f"{where}: {' '.join(words)!r}; expected {_LINE}")
        numbers = read_numbers(words[-4:], where, _LINE)
        boxes.append((" ".join(words[:-4]), make_box(0, numbers, float(difficult), layout, pixels or "edges", where)))
    return boxes


def _from_json(path: Path) -> TrueBoxes:
    """COCO's instances. Areas are those in the file, of masks; crowds are marked."""
    with blame(path):
        content = read_json(path)
        try:
            categories = {int(category["id"]): index for index, category in enumerate(content["categories"])}
            numbers = {int(image["id"]): Path(image["file_name"]).stem for image in content["images"]}
            images: dict[str, list[Box]] = {name: [] for name in numbers.values()}
            if not categories:
                raise DataError("lists no categories")
            if len(categories) < len(content["categories"]) or len(numbers) < len(content["images"]):
                raise DataError("two of its categories, or two of its images have the same id")
            if len({category["name"] for category in content["categories"]}) < len(categories):
                raise DataError("two of its categories have the same name")
            if len(images) < len(numbers):
                raise DataError("two of its images have the same file name")
            for region in content["annotations"]:
                where = f"annotation {region.get('id')}"
                if region["category_id"] not in categories or region["image_id"] not in numbers:
                    raise DataError(f"{where} is of an image or a category that the file does not list")
                box = make_box(
                    categories[region["category_id"]], region["bbox"], region.get("iscrowd", 0), "xywh", "edges", where
                )
                area = float(region.get("area", box.area))
                if not 0 <= area < math.inf:
                    raise DataError(f"{where} has an area of {area:g}")
                images[numbers[region["image_id"]]].append(box._replace(area=area))
            return TrueBoxes(tuple(category["name"] for category in content["categories"]), images, categories, numbers)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"is not an instances file of COCO ({error!r})") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON ({error})") from error
