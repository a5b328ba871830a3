"""A small data set on disk with all five labels, and an experiment on it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from torch import nn

from ubertrain.trunks.trunk import IMAGENET_MEAN, IMAGENET_STD, StageSequence, Tap, Trunk

LABELS = ("boxes", "class_map", "depth", "normals", "edges")
PARTS = (("boxes", "class_map"), ("depth", "normals"), ("edges",), ("class_map", "depth"))
"""The labels of the first, second, ... image, over and over."""
CLASSES = ("wall", "box")
SIZE = (48, 64)


class TinyTrunk(Trunk):
    """Four stages of one strided convolution each; "tests.rooms:TinyTrunk" in a configuration."""

    def __init__(self, *, width: int = 8) -> None:
        super().__init__(IMAGENET_MEAN, IMAGENET_STD)
        self.blocks = nn.ModuleList(_block(3 if index == 0 else width, width, 4 if index == 0 else 2) for index in range(4))
        stages = {f"res{index + 2}": StageSequence(block=block) for index, block in enumerate(self.blocks)}
        stages["res2"] = StageSequence(normalise=self.normalise, block=self.blocks[0])
        taps = {name: Tap(name, width, 4 * 2**index) for index, name in enumerate(stages)}
        self.complete(stages, taps, frozen=(), weights=None)


def _block(source: int, target: int, stride: int) -> nn.Module:
    """Convolution, batch norm with its buffers, ReLU in place, dropout with its random numbers."""
    convolution = nn.Conv2d(source, target, 3 if stride == 2 else 7, stride, 1 if stride == 2 else 3, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(target), nn.ReLU(inplace=True), nn.Dropout(0.1))


def write_rooms(root: Path, count: int = 8, parts: Sequence[Sequence[str]] = PARTS) -> Path:
    """Grey walls with one bright rectangle each, `root/images/room0.png` and so on; returns `root`."""
    for folder in ("images", *LABELS):
        (root / folder).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(count):
        x0, y0 = int(random.integers(4, 30)), int(random.integers(4, 20))
        x1, y1 = x0 + int(random.integers(12, 30)), y0 + int(random.integers(12, 24))
        inside = np.zeros(SIZE, bool)
        inside[y0:y1, x0:x1] = True
        image = np.where(inside[..., None], random.integers(150, 255, 3), 60) + random.integers(0, 20, (*SIZE, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / f"room{index}.png")
        _write_labels(root, f"room{index}", inside, (x0, y0, x1, y1), parts[index % len(parts)])
    return root


def _write_labels(root: Path, name: str, inside: np.ndarray, box: Sequence[int], labels: Sequence[str]) -> None:
    if "boxes" in labels:
        (root / "boxes" / f"{name}.json").write_text(json.dumps({"boxes": [list(box)], "classes": ["box"]}))
    if "class_map" in labels:
        Image.fromarray(inside.astype(np.uint8)).save(root / "class_map" / f"{name}.png")
    if "depth" in labels:
        np.save(root / "depth" / f"{name}.npy", np.where(inside, 2.0, 5.0).astype(np.float32))
    if "normals" in labels:
        np.save(root / "normals" / f"{name}.npy", np.where(inside[..., None], (0, 0, -1), (0, -0.6, -0.8)).astype(np.float32))
    if "edges" in labels:
        edge = inside ^ np.roll(inside, 1, 0) | inside ^ np.roll(inside, 1, 1)
        np.save(root / "edges" / f"{name}.npy", edge.astype(np.uint8))


def room_config(root: Path, changes: Mapping[str, object] | None = None) -> dict[str, object]:
    """An experiment on `root` with all five tasks and a tiny trunk; `changes` replaces whole top-level keys."""
    rooms = {"type": "folder", "root": str(root), "classes": {"boxes": ["box"], "class_map": list(CLASSES)}}
    small = {"taps": ["res2", "res3"], "width": 8}
    return {
        "steps": 4,
        "threads": 1,
        "device": "cpu",
        "trunk": {"name": "tests.rooms:TinyTrunk", "width": 8},
        "tasks": {
            "boxes": {"taps": ["res3", "res4"], "channels": 8, "width": 16, "candidates": 32, "proposals": 8},
            "segmentation": dict(small),
            "depth": dict(small),
            "normals": dict(small),
            "boundaries": dict(small),
        },
        "data": {"size": list(SIZE), "batch": 4, "train": {"rooms": rooms}, "val": {"rooms": dict(rooms)}},
        "optimizer": {"type": "sgd", "lr": 0.01, "weight_decay": 0.01},
        "save_every": 2,
        "log_every": 2,
        "pictures": 1,
        **(changes or {}),
    }


def write_config(folder: Path, root: Path, changes: Mapping[str, object] | None = None) -> Path:
    """`room_config` as a file `rooms.yaml` in `folder`."""
    file = folder / "rooms.yaml"
    file.write_text(yaml.safe_dump(room_config(root, changes), sort_keys=False))
    return file
