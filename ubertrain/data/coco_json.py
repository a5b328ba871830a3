"""COCO's annotation files as a few arrays.

A list of dicts for the 860,000 objects of COCO would be copied into every worker process as its reference counts are touched;
arrays are shared.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ubertrain.data.blame import blame
from ubertrain.errors import DataError


class Regions(NamedTuple):
    """The objects or segments of images, a row each.

    Attributes:
        corners: (N, 4) float32, x0 y0 x1 y1 in pixels.
        categories: (N,) COCO's category ids.
        crowd: (N,) 1 where a region holds a crowd of objects, else 0.
        segments: (N,) COCO's ids of the regions.
    """

    corners: np.ndarray
    categories: np.ndarray
    crowd: np.ndarray
    segments: np.ndarray


@dataclass(frozen=True)
class CocoFile:
    """One annotation file.

    Attributes:
        path: the file.
        images: stem of the image file -> COCO's image id, for all images listed, in the order of the stems.
        names: category id -> class name, in the order of the file.
        things: the ids of categories that are countable objects.
        spans: image id -> which rows of `regions` are its own, for images that are labelled.
        regions: all images' regions, in one piece.
    """

    path: Path
    images: Mapping[str, int]
    names: Mapping[int, str]
    things: frozenset[int]
    spans: Mapping[int, tuple[int, int]]
    regions: Regions

    def of(self, stem: str) -> Regions:
        """The regions of the image with this stem."""
        start, stop = self.spans[self.images[stem]]
        return Regions(*(array[start:stop] for array in self.regions))

    def labels(self, stem: str) -> bool:
        """Whether the image is labelled; a labelled image may have no regions."""
        return self.images.get(stem) in self.spans


def read_instances(path: Path) -> CocoFile:
    """An `instances_*.json`. Every image it lists is labelled, also one without objects.

    Raises:
        DataError: the file is no JSON or not of COCO's form.
    """

    def per_image(content: Any) -> dict[int, list[Any]]:
        regions: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
        for region in content["annotations"]:
            if region["image_id"] not in regions:
                raise DataError(f"annotation {region['id']} is of image {region['image_id']}, which the file does not list")
            regions[region["image_id"]].append(region)
        return regions

    return _read(path, per_image)


def read_panoptic(path: Path) -> CocoFile:
    """A `panoptic_*.json`. An image is labelled if it has an entry among the annotations.

    Raises:
        DataError: the file is no JSON or not of COCO's form.
    """
    return _read(path, lambda content: {entry["image_id"]: entry["segments_info"] for entry in content["annotations"]})


def _read(path: Path, per_image: Any) -> CocoFile:
    with blame(path):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read as JSON ({error})") from error
        try:
            regions = per_image(content)
            stops = np.cumsum([0, *(len(rows) for rows in regions.values())]).tolist()
            images = {Path(image["file_name"]).stem: image["id"] for image in sorted(content["images"], key=_file_name)}
            names = {category["id"]: category["name"] for category in content["categories"]}
            if len(images) < len(content["images"]):
                raise DataError("two of its images have the same file name, up to folders and endings")
            if unknown := {row["category_id"] for rows in regions.values() for row in rows} - set(names):
                raise DataError(f"has regions of category {min(unknown)}, which it does not list")
            return CocoFile(
                path,
                images,
                names,
                frozenset(category["id"] for category in content["categories"] if category.get("isthing", 1)),
                {image: (stops[i], stops[i + 1]) for i, image in enumerate(regions)},
                _pack(row for rows in regions.values() for row in rows),
            )
        except DataError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"is not a COCO annotation file ({type(error).__name__}: {error})") from error


def _file_name(image: Mapping[str, Any]) -> str:
    return str(image["file_name"])


def _numbers(row: Mapping[str, Any]) -> tuple[float, ...]:
    x, y, width, height = row["bbox"]
    return x, y, x + width, y + height, row["category_id"], row.get("iscrowd", 0), row["id"]


def _pack(rows: Iterable[Mapping[str, Any]]) -> Regions:
    table = np.array([_numbers(row) for row in rows], dtype=np.float64).reshape(-1, 7)
    return Regions(table[:, :4].astype(np.float32), *table[:, 4:].T.astype(np.int64))
