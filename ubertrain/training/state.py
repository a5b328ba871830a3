"""Saved states on disk: written whole or not at all, checked when read."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ubertrain.errors import StateError

WEIGHTS, REST, MANIFEST = "weights.safetensors", "rest.pt", "manifest.json"


@dataclass(frozen=True)
class State:
    """Everything a run needs to go on as if it had never stopped.

    Attributes:
        step: optimizer steps taken.
        weights: the graph's `state_dict`.
        rest: optimizer, random numbers, sampler, counts: tensors, numbers, texts, and lists and dicts of them.
    """

    step: int
    weights: Mapping[str, Tensor]
    rest: Mapping[str, Any]


class StateFolder:
    """A folder of saved states, `step-00000200/` each, of which the newest `keep` stay.

    A state is written into a hidden folder beside its place, synced to disk and renamed, so that a kill at any moment leaves
    the earlier states whole. Its manifest holds the size and SHA-256 of each file, so that damage is noticed.
    """

    def __init__(self, path: Path, keep: int = 2) -> None:
        self.path, self.keep = path, keep

    def save(self, state: State) -> Path:
        """Write `state` and remove what is older than the newest `keep`. Returns the state's folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        for leftover in self.path.glob(".*"):
            shutil.rmtree(leftover)
        place, draft = self.path / f"step-{state.step:08d}", self.path / f".step-{state.step:08d}"
        draft.mkdir()
        # Parameters shared by two branches stand under both names; safetensors wants them as separate tensors.
        save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.weights.items()}, draft / WEIGHTS)
        torch.save(dict(state.rest), draft / REST)
        files = {name: _fingerprint(draft / name) for name in (WEIGHTS, REST)}
        (draft / MANIFEST).write_text(json.dumps({"step": state.step, "files": files}, indent=1))
        for file in (*draft.iterdir(), draft):
            _sync(file)
        if place.exists():  # a damaged one that training has caught up with
            place.rename(self.path / f".old-{place.name}")
        draft.rename(place)
        _sync(self.path)
        for old in [*self.saved()[: -self.keep], *self.path.glob(".*")]:
            shutil.rmtree(old)
        return place

    def saved(self) -> list[Path]:
        """The folders of the saved states, oldest first."""
        return sorted(self.path.glob("step-*"))

    def load(self) -> tuple[State, list[str]]:
        """The newest state that is whole, and a complaint about each newer one that is damaged.

        Raises:
            StateError: there is no state, or all are damaged.
        """
        complaints: list[str] = []
        for place in reversed(self.saved()):
            try:
                return _read(place), complaints
            except StateError as error:
                complaints.append(str(error))
        if not complaints:
            raise StateError(f"{self.path}: there is no saved state to resume from; start the run without --resume")
        raise StateError("\n".join([*complaints, f"{self.path}: every saved state is damaged; start the run anew"]))


def _read(place: Path) -> State:
    try:
        manifest = json.loads((place / MANIFEST).read_text())
        for name, expected in manifest["files"].items():
            if (found := _fingerprint(place / name)) != expected:
                raise StateError(f"{place / name}: damaged: expected {expected}, found {found}")
        weights = load_file(place / WEIGHTS)
        rest = torch.load(place / REST, map_location="cpu", weights_only=True)
        return State(int(manifest["step"]), weights, rest)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"{place}: damaged: {error}") from error


def _fingerprint(file: Path) -> dict[str, int | str]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _sync(path: Path) -> None:
    """Have the operating system write a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
