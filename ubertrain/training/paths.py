"""Paths in a configuration, which mean the same files wherever it is read again."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FOLDERS = ("root", "proposals")
_FILES = ("weights", "codebook")


def make_absolute(values: dict[str, Any]) -> None:
    """Replace in `values`, as YAML gives them, the paths of files and folders that there are by absolute ones.

    Relative paths begin where the user works; ~ and $VARIABLES are filled in. So a run can be evaluated and resumed from
    another folder. What names no file or folder, like the weights "imagenet", stays as it is.
    """
    for part in _parts(values):
        for key in (*_FOLDERS, *_FILES):
            if isinstance(given := part.get(key), str):
                path = Path(os.path.expandvars(given)).expanduser()
                if path.is_dir() if key in _FOLDERS else path.is_file():
                    part[key] = str(Path(os.path.abspath(path)))  # links stay


def _parts(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The mappings whose keys are those of a trunk, a task or a data set; one may be of another data set."""
    data = _mapping(values.get("data"))
    named = (_mapping(values.get("tasks")), _mapping(data.get("train")), _mapping(data.get("val")))
    for part in (values.get("trunk"), *(item for items in named for item in items.values())):
        while found := _mapping(part):
            yield found
            part = found.get("of")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
