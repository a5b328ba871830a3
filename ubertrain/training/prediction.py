"""Answers for images of any size, as pictures and boxes in the images' own coordinates."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.picture import Tile, contact_sheet
from ubertrain.annotation.warp import Warp
from ubertrain.data.images import read_image
from ubertrain.engine.graph import Graph
from ubertrain.task import Task
from ubertrain.training.config import Config
from ubertrain.training.photograph import as_array, boxes_on, draw_on, resampled
from ubertrain.training.pictures import predict_one, save_picture

_TILE = 480
"""Largest side of a picture on the sheet."""


@dataclass(frozen=True)
class Predicted:
    """The answers for one image.

    Attributes:
        file: the image.
        pictures: "image" and each task -> (height, width, 3) uint8, of the image's size.
        boxes: task -> list of {"box": [x0, y0, x1, y1] in pixels of the image, "score", "class", "name"}, for tasks that find
            boxes.
    """

    file: Path
    pictures: Mapping[str, np.ndarray]
    boxes: Mapping[str, list[dict[str, Any]]]

    def tiles(self) -> list[Tile]:
        """The pictures side by side, titled, and no larger than a sheet of several needs."""
        return [Tile(self.file.name if name == "image" else name, _small(picture)) for name, picture in self.pictures.items()]


def predict(graph: Graph, tasks: Mapping[str, Task], config: Config, file: Path) -> Predicted:
    """What every task says about the image in `file`, which is fitted whole into the network's input, the right way up.

    Raises:
        DataError: the file is missing, damaged or not an image.
    """
    image = read_image(file, upright=True)
    size = (image.shape[1], image.shape[2])
    fit = Warp.fit(size, config.data.size)
    pictures, boxes = {"image": as_array(image)}, {}
    for name, prediction in predict_one(graph, resampled(image, fit)).items():
        pictures[name] = draw_on(image, tasks[name], prediction, fit)
        if issubclass(tasks[name].annotation, Boxes):
            boxes[name] = _listed(boxes_on(prediction, fit, size), getattr(tasks[name], "names", ()))
    return Predicted(file, pictures, boxes)


def write_predictions(predicted: Sequence[Predicted], folder: Path) -> list[Path]:
    """Write `NAME_TASK.png` for every image and task, `sheet.png` of all of them and `boxes.json`; returns the files.

    Two images of one name are told apart by a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, stems = [], [one.file.stem for one in predicted]
    for index, one in enumerate(predicted):
        stem = one.file.stem if stems.count(one.file.stem) == 1 else f"{one.file.stem}-{index + 1}"
        files += [
            save_picture(picture, folder / f"{stem}_{name}.png") for name, picture in one.pictures.items() if name != "image"
        ]
    files.append(save_picture(contact_sheet([one.tiles() for one in predicted]), folder / "sheet.png"))
    boxes = folder / "boxes.json"
    boxes.write_text(json.dumps({str(one.file): one.boxes for one in predicted}, indent=1) + "\n")
    return [*files, boxes]


def _small(picture: np.ndarray) -> np.ndarray:
    """The picture, or a smaller copy whose longer side has `_TILE` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((_TILE, _TILE))
    return np.asarray(image)


def _listed(found: Mapping[str, Tensor], names: Any) -> list[dict[str, Any]]:
    rows = zip(found["boxes"].tolist(), found["scores"].tolist(), found["classes"].tolist(), strict=True)
    return [
        {"box": box, "score": score, "class": kind, "name": names[kind] if kind < len(names) else str(kind)}
        for box, score, kind in rows
    ]
