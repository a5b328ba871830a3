"""Chains that have been measured before, in memory and on disk: the same step need not be measured twice."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ubertrain.engine.graph import Graph
from ubertrain.measuring.estimate import estimate
from ubertrain.measuring.fingerprint import fingerprint
from ubertrain.planning.chain import Chain

FOLDER = "UBERTRAIN_CACHE"
"""The environment variable that names the folder of the cache, or says "off"."""

_MOST_FILES = 256
_memory: dict[str, Chain] = {}


def remembered(graph: Graph, images: Any, targets: Mapping[str, Any], *, cost: str, rounding: int = 1) -> Chain:
    """`estimate`, or what it has given before for the same step; see `fingerprint` for what makes two steps the same.

    Args:
        graph, images, targets, cost, rounding: as in `estimate`.

    Raises:
        ConfigError, ScheduleError, TaskError: as `estimate`.
    """
    key = fingerprint(graph, images, targets, cost=cost, rounding=rounding)
    if key not in _memory:
        _memory[key] = _read(key) or _write(key, estimate(graph, images, targets, cost=cost, rounding=rounding))
    return _memory[key]


def forget() -> None:
    """Empty the memory's part of the cache."""
    _memory.clear()


def _folder() -> Path | None:
    named = os.environ.get(FOLDER)
    if named == "off":
        return None
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ubertrain") / "chains"


def _read(key: str) -> Chain | None:
    folder = _folder()
    if folder is None:
        return None
    try:
        return Chain.from_dict(json.loads((folder / f"{key}.json").read_text()))
    except (OSError, ValueError, TypeError, KeyError):  # absent, or damaged: it is measured again
        return None


def _write(key: str, chain: Chain) -> Chain:
    folder = _folder()
    if folder is not None:
        with contextlib.suppress(OSError):  # a folder that cannot be written costs time, not the run
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False) as file:
                json.dump(chain.to_dict(), file)
            os.replace(file.name, folder / f"{key}.json")
            for old in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-_MOST_FILES]:
                old.unlink(missing_ok=True)
    return chain
