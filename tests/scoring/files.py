"""Files as tests write them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_png(path: Path, values: Any, dtype: type = np.uint8) -> Path:
    """Save an array as a PNG of that type, in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=dtype)).save(path)
    return path


def write_npy(path: Path, values: Any) -> Path:
    """Save an array as .npy, in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(values))
    return path


def write_text(folder: Path, files: Mapping[str, str]) -> Path:
    """Write text files into a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file."""
    path.write_text(json.dumps(content))
    return path


def thing(name: str, corners: tuple[float, float, float, float], difficult: int = 0) -> str:
    """An object of VOC's XML, its corners as they are stored."""
    sides = "".join(f"<{side}>{n:g}</{side}>" for side, n in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def xml(*things: str) -> str:
    """VOC's XML of one image."""
    return f"<annotation>{''.join(things)}</annotation>"
