"""A data set that is rendered, not downloaded: rooms with simple solids, and exact labels of five kinds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ubertrain.annotation.annotation import Annotation
from ubertrain.annotation.boxes import Boxes
from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.depth import Depth
from ubertrain.annotation.edges import Edges
from ubertrain.annotation.normals import Normals
from ubertrain.annotation.stereo import Stereo, stereo_value
from ubertrain.data.reader import Reader
from ubertrain.data.rendering import CLASSES, OBJECT_CLASSES, Rendering, Scene, random_scene, render
from ubertrain.data.sample import Sample
from ubertrain.errors import ConfigError, DataError

_KINDS: Mapping[str, type[Annotation]] = {kind.key: kind for kind in (Boxes, ClassMap, Depth, Normals, Edges)}
_OF_PAIRS: Mapping[str, type[Annotation]] = {Stereo.key: Stereo}


class Scenes(Reader):
    """Rendered rooms; by default partially labelled, as mixed data sets are.

    What an image shows depends on `seed`, `objects`, the shape of `size` and its index, and on nothing else: not on the
    process, on `images` or on `keep`. All images are taken by one camera (`focal`). Labels:

    - "boxes": the visible extent of each object; `ignore` where hardly anything of it is visible.
    - "class_map": wall (and ceiling), floor, and the four kinds of objects.
    - "depth": metres along the optical axis, at every pixel.
    - "normals": x right, y down, z forward, at every pixel.
    - "edges": one plane; outlines of objects and creases between their faces, and between floor and walls. Neither textures
      nor shadows are edges.
    - "stereo", if there is a `baseline`: the view of a second camera, with the true disparity.

    Args:
        images: how many.
        size: [height, width] in pixels.
        seed: another seed is another data set; give validation its own.
        keep: which labels an image carries. "all"; a list of names, which all images carry; or {min: 1, max: 3}, by which each
            image carries between so many and so many of them, drawn per image.
        objects: [fewest, most] in a room; few of them may be out of view or hidden.
        baseline: metres that a second camera stands to the right; 0 is none.

    Raises:
        ConfigError: a value out of range or an unknown label.
    """

    def __init__(
        self,
        images: int = 1000,
        size: Sequence[int] = (128, 160),
        seed: int = 0,
        keep: str | Sequence[str] | Mapping[str, int] = {"min": 1, "max": 3},
        objects: Sequence[int] = (2, 5),
        baseline: float = 0.0,
    ) -> None:
        self._images, self._size, self._seed = images, _pair(size, "size", least=16), seed
        self._objects = _pair(objects, "objects", least=0)
        if images < 1 or seed < 0:
            raise ConfigError(f"scenes: images must be at least 1 and seed at least 0; got {images} and {seed}")
        if self._objects[0] > self._objects[1]:
            raise ConfigError(f"scenes: objects must be [fewest, most]; got {list(objects)}")
        if not 0 <= baseline <= 1:
            raise ConfigError(
                f"scenes: baseline is between 0, no second camera, and 1 metre, for walls to stay in front; got {baseline}"
            )
        self._baseline = baseline
        kinds = {**_KINDS, **_OF_PAIRS} if baseline else _KINDS
        labels, self._counts = _kept(keep, list(kinds))
        self.kinds = {label: kinds[label] for label in labels}
        self.classes = {"boxes": OBJECT_CLASSES, "class_map": CLASSES}
        self.classes = {label: names for label, names in self.classes.items() if label in labels}

    @property
    def focal(self) -> float:
        """Focal length in pixels; the optical axis is in the middle of the image, which is about 58 degrees wide."""
        return 0.9 * self._size[1]

    def __len__(self) -> int:
        return self._images

    def read(self, index: int) -> Sample:
        if not 0 <= index < self._images:
            raise DataError(f"scenes: no image {index}; there are {self._images}, counted from 0")
        scene = random_scene(np.random.default_rng((self._seed, index)), self._objects, 0.5 * self._size[1] / self.focal)
        rendering = render(scene, self._size, self.focal)
        image = torch.from_numpy(rendering.image).permute(2, 0, 1).contiguous()
        annotations = {
            label: self._stereo(scene, rendering, image) if label == Stereo.key else _label(label, scene, rendering)
            for label in self._labels_of(index)
        }
        for label, value in annotations.items():
            self.kinds[label].check(value, self._size)
        return Sample(f"{index:06d}", image, annotations, source=f"rendered scene {index} of seed {self._seed}")

    def _stereo(self, scene: Scene, rendering: Rendering, image: Tensor) -> dict[str, Tensor]:
        """The second camera's view; what the image shows at column x it shows further left, by baseline * focal / depth."""
        other = render(scene.beside(self._baseline), self._size, self.focal, exposure=rendering.exposure).image
        scale = self._baseline * self.focal / self._size[1]
        disparity = scale / torch.from_numpy(rendering.depth)
        return stereo_value(image, torch.from_numpy(other).permute(2, 0, 1).contiguous(), disparity=disparity, scale=scale)

    def _labels_of(self, index: int) -> list[str]:
        """The labels that this image carries, drawn apart from the scene so that `keep` never changes a picture."""
        rng = np.random.default_rng((self._seed, index, 1))
        labels, (fewest, most) = list(self.kinds), self._counts
        chosen = rng.choice(len(labels), size=int(rng.integers(fewest, most + 1)), replace=False)
        return [label for number, label in enumerate(labels) if number in chosen]


def _kept(keep: str | Sequence[str] | Mapping[str, int], known: list[str]) -> tuple[list[str], tuple[int, int]]:
    """The labels, of those `known`, that images may carry, and the fewest and most of them that one does."""
    if isinstance(keep, Mapping):
        fewest, most = keep.get("min", 0), keep.get("max", len(known))
        if set(keep) - {"min", "max"} or not 0 <= fewest <= most <= len(known):
            raise ConfigError(f"scenes: keep must be {{min: a, max: b}} with 0 <= a <= b <= {len(known)}; got {dict(keep)}")
        return known, (fewest, most)
    labels = known if keep == "all" else [keep] if isinstance(keep, str) else list(keep)
    if not labels or set(labels) - set(known):
        needs = " (stereo needs a baseline)" if Stereo.key in labels and Stereo.key not in known else ""
        raise ConfigError(
            f'scenes: keep must be "all", {{min: a, max: b}} or a list of {", ".join(known)}{needs}; got {keep!r}'
        )
    return [label for label in known if label in labels], (len(set(labels)),) * 2


def _pair(values: Sequence[int], key: str, least: int) -> tuple[int, int]:
    if len(values) != 2 or min(values) < least:
        raise ConfigError(f"scenes: {key} must be two whole numbers of at least {least}; got {list(values)}")
    return int(values[0]), int(values[1])


def _label(label: str, scene: Scene, rendering: Rendering) -> Any:
    """The value of one kind of annotation."""
    if label == "depth":
        return torch.from_numpy(rendering.depth)
    if label == "normals":
        return torch.from_numpy(rendering.normals)
    if label == "edges":
        return _edges(rendering)
    return _class_map(scene, rendering) if label == "class_map" else _boxes(scene, rendering.solid)


def _class_map(scene: Scene, rendering: Rendering) -> Tensor:
    """The class of what each pixel shows, by solid and face."""
    table = np.zeros((len(scene.solids), 8), np.int64)
    for row, solid in zip(table, scene.solids, strict=True):
        row[:] = solid.classes[0]
        row[: len(solid.classes)] = solid.classes
    return torch.from_numpy(table[rendering.solid, rendering.face])


def _edges(rendering: Rendering) -> Tensor:
    """Pixels whose right or lower neighbour shows another solid or another face, (1, height, width) uint8."""
    part = rendering.solid.astype(np.int32) * 8 + rendering.face
    edges = np.zeros(part.shape, np.uint8)
    edges[:, :-1] |= part[:, :-1] != part[:, 1:]
    edges[:-1] |= part[:-1] != part[1:]
    return torch.from_numpy(edges)[None]


def _boxes(scene: Scene, solid: NDArray[np.int16]) -> dict[str, Tensor]:
    """The visible extent of each object that is visible at all; `ignore` for slivers that nobody could name."""
    boxes, classes, ignore = [], [], []
    for number, owner in enumerate(scene.solids[1:], start=1):
        mine = solid == number
        rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
        if rows.size:
            boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            classes.append(OBJECT_CLASSES.index(CLASSES[owner.classes[0]]))
            ignore.append(min(rows.size, columns.size) < 3 or int(mine.sum()) < 20)
    return {
        "boxes": torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        "classes": torch.tensor(classes, dtype=torch.int64),
        "ignore": torch.tensor(ignore, dtype=torch.bool),
    }
