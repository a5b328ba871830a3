"""Detections in files: COCO's results, VOC's file per class, or a text file per image."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ubertrain.data.blame import blame
from ubertrain.errors import DataError
from ubertrain.scoring.box_rows import Box, Layout, Pixels, TrueBoxes, make_box, read_lines, read_numbers
from ubertrain.scoring.box_truth import read_json
from ubertrain.scoring.pairs import by_id

_PER_CLASS = re.compile(r"comp\d+(_[^_]+)?_det_.*?_(?P<kind>[^_]+)\.txt", re.IGNORECASE)
"""`comp4_det_test_person.txt`: detections of one class in all images, as VOC's kit reads them; Fast R-CNN adds a number."""


def read_detections(path: Path, truth: TrueBoxes, *, layout: Layout, pixels: Pixels | None) -> dict[str, list[Box]]:
    """The detections in `path`, by image; the form is told by the files.

    Args:
        path: a JSON of COCO's results; or a folder of `comp4_det_SET_CLASS.txt` with lines `image score x0 y0 x1 y1`; or a
            folder with a text file for each image whose lines are `class score x0 y0 x1 y1`.
        truth: knows the classes.
        layout: of text files per image.
        pixels: what coordinates mean; None: "from_1" in VOC's files per class, else "edges".

    Raises:
        DataError: names the file and the line.
    """
    if path.is_file() and path.suffix.lower() == ".json":
        return _from_json(path, truth, pixels or "edges")
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; it should hold the detections")
    files = by_id(path, (".txt",), "detections")
    by_class = {file: match["kind"] for file in files.values() if (match := _PER_CLASS.fullmatch(file.name))}
    if by_class:
        if others := sorted(set(files.values()) - set(by_class)):
            raise DataError(f"{others[0]}: is not named comp4_det_SET_CLASS.txt, as {min(by_class).name} beside it is")
        return _per_class(by_class, truth, pixels or "from_1")
    return {name: _of_image(file, truth, layout, pixels or "edges") for name, file in files.items()}


def _of_image(file: Path, truth: TrueBoxes, layout: Layout, pixels: Pixels) -> list[Box]:
    boxes = []
    expected = "class score x0 y0 x1 y1" if layout == "xyxy" else "class score x y width height"
    for where, words in read_lines(file):
        if len(words) < 6:
            raise DataError(f"{where}: {' '.join(words)!r}; expected {expected}")
        score, *numbers = read_numbers(words[-5:], where, expected)
        boxes.append(make_box(truth.kind(" ".join(words[:-5]), where), numbers, score, layout, pixels, where))
    return boxes


def _per_class(files: Mapping[Path, str], truth: TrueBoxes, pixels: Pixels) -> dict[str, list[Box]]:
    images: dict[str, list[Box]] = {}
    expected = "image score x0 y0 x1 y1"
    done: dict[int, Path] = {}
    for file, word in files.items():
        kind = truth.kind(word, str(file))
        if kind in done:
            raise DataError(f"{done[kind]} and {file} are both detections of {truth.classes[kind]!r}; keep one")
        done[kind] = file
        for where, words in read_lines(file):
            if len(words) != 6:
                raise DataError(f"{where}: {' '.join(words)!r}; expected {expected}")
            score, *numbers = read_numbers(words[1:], where, expected)
            images.setdefault(words[0], []).append(make_box(kind, numbers, score, "xyxy", pixels, where))
    return images


def _from_json(path: Path, truth: TrueBoxes, pixels: Pixels) -> dict[str, list[Box]]:
    images: dict[str, list[Box]] = {}
    with blame(path):
        content = read_json(path)
        if not isinstance(content, list):
            raise DataError("is not a list of results, each with image_id, category_id, bbox and score")
        for number, result in enumerate(content):
            where = f"result {number}"
            try:
                kind = _category(result["category_id"], truth, where)
                box = make_box(kind, result["bbox"], float(result["score"]), "xywh", pixels, where)
                images.setdefault(_image(result["image_id"], truth), []).append(box)
            except (KeyError, OverflowError, TypeError, ValueError) as error:
                if isinstance(error, DataError):
                    raise
                raise DataError(f"{where} has no image_id, category_id, score, and bbox of four numbers ({error!r})") from error
    return images


def _category(category: Any, truth: TrueBoxes, where: str) -> int:
    if not truth.categories:
        return truth.kind(str(category), where) if isinstance(category, str) else _refuse(category, where)
    if category not in truth.categories:
        ids = sorted(truth.categories)
        raise DataError(f"{where}: category_id {category} is not among those of the truth, {ids[0]} to {ids[-1]}")
    return truth.categories[category]


def _refuse(category: Any, where: str) -> int:
    raise DataError(f"{where}: category_id {category} needs a truth of COCO's form; write the name of the class")


def _image(image: Any, truth: TrueBoxes) -> str:
    """The id of an image from COCO's number, or from its file's name, with or without its ending."""
    if isinstance(image, int | float):
        return truth.numbers.get(int(image), str(image))
    return image if image in truth.images else Path(str(image)).stem
