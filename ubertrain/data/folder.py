"""The user's own images: a folder of images and a folder per label, matched by file name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.axes import Axes
from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.depth import Depth
from ubertrain.annotation.edges import Edges
from ubertrain.annotation.normals import Normals
from ubertrain.annotation.parts import Parts, left_and_right, parts_kind
from ubertrain.annotation.saliency import Saliency
from ubertrain.annotation.semantic_edges import SemanticEdges
from ubertrain.annotation.stereo import Stereo, stereo_value
from ubertrain.annotation.values import expect
from ubertrain.data.blame import blame
from ubertrain.data.box_values import box_value
from ubertrain.data.files import FileReader
from ubertrain.data.images import read_depth, read_ids, read_image, read_lines, read_mask, read_normals
from ubertrain.data.selection import folder
from ubertrain.errors import ConfigError, DataError

_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
_KINDS: dict[str, tuple[type[Annotation], tuple[str, ...]]] = {
    "boxes": (Boxes, (".json", ".txt")),
    "class_map": (ClassMap, (".png",)),
    "depth": (Depth, (".png", ".npy")),
    "normals": (Normals, (".png", ".npy")),
    "edges": (Edges, (".png", ".npy")),
    "semantic_edges": (SemanticEdges, (".npy",)),
    "saliency": (Saliency, (".png",)),
    "parts": (Parts, (".png",)),
    "stereo": (Stereo, (".png", ".jpg", ".jpeg")),
}
_WITH_CLASSES = ("boxes", "class_map", "semantic_edges", "parts")


class Folder(FileReader):
    """`root/images/NAME.jpg` (or .png, ...), and for what is known of an image `root/LABEL/NAME.EXTENSION`.

    A label whose file is missing is not labelled; say "nothing here" with a file that lists no boxes. The labels are:

    - `boxes/NAME.json`: `{"boxes": [[x0, y0, x1, y1], ...], "classes": [...], "ignore": [...]}`, in pixels; classes are names
      or ids; "ignore" may be left out. Or `boxes/NAME.txt`: a line "id x y width height" per box, its centre and size as
      fractions of the image's sides, as YOLO has it.
    - `class_map/NAME.png`: class ids, 255 = unknown.
    - `depth/NAME.png`: 16 bit, `depth_scale` units per metre, 0 and 65535 = unknown. Or `.npy`: metres, 0 = unknown.
    - `normals/NAME.png`: 8 bit, n = 2 v / 255 - 1, black or mid grey = unknown. Or `.npy`: (height, width, 3).
    - `edges/NAME.png`: white lines on black. Or `.npy`: (height, width) or (annotators, height, width) of 0, 1, 255 = unknown.
    - `semantic_edges/NAME.npy`: (classes, height, width) of 0, 1 = boundary, 2 = inside of an object, 255 = unknown.
    - `saliency/NAME.png`: black and white, white (from 128 on) = salient.
    - `stereo/NAME.png` (or .jpg): the view of a rectified second camera to the right, of the image's size. If `disparity` has
      a `NAME.png` (16 bit, 256 units per pixel, 0 = unknown, as KITTI has it) or `NAME.npy` (pixels), that is the true one.
    - `parts/NAME.png`: class ids, 255 = unknown; where `classes` names a left and a right part, a flip exchanges them.

    Args:
        root: the folder.
        classes: label -> class names in the order of their ids, for "boxes", "class_map", "semantic_edges" and "parts"; ids
            beyond are errors.
        depth_scale: see above.
        normals_axes: which way the three numbers of a stored normal grow, in their order. "right up back" is OpenGL's, "right
            forward up" that of NYUv2 in the release of multi-task RefineNet.
        baseline: of stereo pairs, baseline in metres times focal length in pixels; 0 is unknown.
        labels, take, drop: see `FileReader`.
    """

    name = "folder"

    def __init__(
        self,
        root: str,
        *,
        classes: Mapping[str, Sequence[str]] | None = None,
        depth_scale: float = 1000.0,
        normals_axes: str = "right down forward",
        baseline: float = 0.0,
        labels: Sequence[str] | None = None,
        take: str = ":",
        drop: str | None = None,
    ) -> None:
        self._root = folder(root, "a folder `images` and a folder per label")
        images = folder(self._root / "images", "the images")
        self._files: dict[str, Path] = {}
        for path in sorted(images.glob("[!.]*")):  # macOS leaves ._a.jpg beside a.jpg
            if path.suffix.lower() not in _IMAGES:
                continue
            if path.stem in self._files:
                raise DataError(f"folder: {path} and {self._files[path.stem]} have one name, so labels would belong to both")
            self._files[path.stem] = path
        self.kinds = {label: kind for label, (kind, _) in _KINDS.items() if (self._root / label).is_dir()}
        self.classes = {label: tuple(names) for label, names in (classes or {}).items()}
        if unknown := set(self.classes) - set(_WITH_CLASSES):
            raise ConfigError(f"folder, classes: {min(unknown)!r} has no classes; only {', '.join(_WITH_CLASSES)} have")
        if "parts" in self.kinds and "parts" in self.classes:
            self.kinds["parts"] = parts_kind(left_and_right(self.classes["parts"]))
        self._depth_scale, self._axes, self._baseline = depth_scale, Axes.parse(normals_axes), baseline
        self._expect_matches()
        self.choose(list(self._files), labels=labels, take=take, drop=drop, where=images)

    def image_file(self, sample: str) -> Path:
        return self._files[sample]

    def label_file(self, label: str, sample: str) -> Path | None:
        files = (self._root / label / f"{sample}{suffix}" for suffix in _KINDS[label][1])
        return next((file for file in files if file.exists()), None)

    def load(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Any:
        match label, file.suffix:
            case "class_map" | "parts", _:
                return read_ids(file)
            case "saliency", _:
                return read_mask(file)
            case "depth", ".png":
                return read_depth(file, self._depth_scale)
            case "normals", ".png":
                return self._axes.converted(read_normals(file))
            case "stereo", _:
                return self._stereo(sample, file, size)
            case "edges", ".png":
                return read_lines(file)[None]
        with blame(file):
            match file.suffix:
                case ".json":
                    return self._boxes(_json(file), size)
                case ".txt":
                    return _yolo(file.read_text(encoding="utf-8", errors="replace"), size)
            value = _array(label, file)
            return self._axes.converted(value) if label == "normals" and value.ndim == 3 and len(value) == 3 else value

    def _expect_matches(self) -> None:
        """Raise `DataError` for a label none of whose files belongs to an image: its names follow another rule."""
        for label in self.kinds:
            files = [path for path in (self._root / label).iterdir() if path.suffix in _KINDS[label][1]]
            if files and not any(path.stem in self._files for path in files):
                raise DataError(
                    f"folder: none of the {len(files)} files in {self._root / label} has the name of an image; "
                    f"{min(files).name} needs an images/{min(files).stem}.jpg (or .png, ...)"
                )

    def _boxes(self, content: Any, size: tuple[int, int]) -> dict[str, Tensor]:
        try:
            corners = [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in content["boxes"]]
            classes = [self._class_id(name) for name in content["classes"]]
            ignore = content.get("ignore", [False] * len(corners))
            if not len(corners) == len(classes) == len(ignore):
                raise DataError(f"{len(corners)} boxes, {len(classes)} classes and {len(ignore)} ignore; expected one each")
            return box_value(corners, classes, ignore, size)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f'is not {{"boxes": [[x0, y0, x1, y1], ...], "classes": [...]}} ({error!r})') from error

    def _stereo(self, sample: str, file: Path, size: tuple[int, int]) -> dict[str, Tensor]:
        disparity = None
        for truth in (self._root / "disparity" / f"{sample}{suffix}" for suffix in (".png", ".npy")):
            if truth.exists():
                with blame(truth):
                    pixels = read_depth(truth, 256) if truth.suffix == ".png" else _array("disparity", truth)
                    expect(pixels.shape == size, f"disparity must have shape {size}, like its image; got {tuple(pixels.shape)}")
                disparity = pixels / size[1]
        own = read_image(self.image_file(sample))
        return stereo_value(own, read_image(file), disparity=disparity, scale=self._baseline / size[1])

    def _class_id(self, name: Any) -> int:
        if isinstance(name, int):
            return name
        if name not in self.classes.get("boxes", ()):
            raise DataError(f"class {name!r} is not among those that the set declares under classes: boxes:")
        return self.classes["boxes"].index(name)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"cannot be read as JSON ({error})") from error


def _yolo(text: str, size: tuple[int, int]) -> dict[str, Tensor]:
    """The boxes in lines of "id x y width height"."""
    corners, classes = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, x, y, width, height = (float(word) for word in line.split())
            if not kind.is_integer():
                raise ValueError(kind)
            classes.append(int(kind))
        except ValueError as error:
            raise DataError(f"line {number}: {line!r} is not five numbers: id (a whole one) x y width height") from error
        corners.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    pixels = torch.tensor(corners, dtype=torch.float64).reshape(-1, 4) * torch.tensor([size[1], size[0], size[1], size[0]])
    return box_value(pixels.tolist(), classes, [False] * len(corners), size)


def _array(label: str, file: Path) -> Tensor:
    """The value in a .npy file; its shape and its numbers are checked later, like those of any label."""
    try:
        array = np.load(file, allow_pickle=False)
        if label == "edges":
            if not np.isin(array, (0, 1, 255)).all():
                raise DataError("has other values than 0, 1 and 255 (unknown)")
            edges = torch.from_numpy(array.astype(np.uint8))
            return edges[None] if edges.ndim == 2 else edges
        if label == "semantic_edges":
            if not np.isin(array, (0, 1, 2, 255)).all():
                raise DataError("has other values than 0, 1 (boundary), 2 (inside) and 255 (unknown)")
            return torch.from_numpy(array.astype(np.uint8))
        if array.dtype.kind not in "biuf":
            raise DataError(f"cannot be read as a .npy file of real numbers; it holds {array.dtype}")
        value = torch.from_numpy(array.astype(np.float32))
    except DataError:
        raise
    except Exception as error:  # numpy raises anything on damaged bytes: EOFError, ValueError, SyntaxError, ...
        raise DataError(f"cannot be read as a .npy file ({error or type(error).__name__})") from error
    channels_last = label == "normals" and value.ndim == 3 and value.shape[0] != 3
    return value.permute(2, 0, 1).contiguous() if channels_last else value
