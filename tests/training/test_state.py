"""Saved states: whole or not there, and damage is noticed."""

import json
from pathlib import Path

import pytest
import torch

from ubertrain.errors import StateError
from ubertrain.training.state import State, StateFolder


def state(step: int) -> State:
    """A state with a shared, a transposed and a plain tensor."""
    shared = torch.arange(4.0)
    rest = {"optimizer": {"momentum": torch.full((2,), float(step))}, "epochs": {"rooms": 1.5}, "text": "a"}
    return State(step, {"a": shared, "b": shared, "c": torch.ones(2, 3).T}, rest)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Weights, also shared and transposed ones, and the rest come back as they were."""
    folder = StateFolder(tmp_path / "state")
    folder.save(state(5))
    loaded, complaints = folder.load()
    assert complaints == []
    assert loaded.step == 5
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in state(5).weights.items())
    assert torch.equal(loaded.rest["optimizer"]["momentum"], torch.full((2,), 5.0))
    assert loaded.rest["epochs"] == {"rooms": 1.5}


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    """An older state goes when a third one is whole on the disk."""
    folder = StateFolder(tmp_path)
    for step in (1, 2, 3):
        folder.save(state(step))
    assert [place.name for place in folder.saved()] == ["step-00000002", "step-00000003"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("name", ["weights.safetensors", "rest.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path: Path, name: str, damage: str) -> None:
    """Any file that is cut short, altered or missing is noticed, named, and the earlier state is used."""
    folder = StateFolder(tmp_path)
    folder.save(state(1))
    file = folder.save(state(2)) / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        middle = len(content) // 2
        file.write_bytes(content[:middle] if damage == "cut" else content[:middle] + b"\xff" + content[middle + 1 :])
    loaded, (complaint,) = folder.load()
    assert loaded.step == 1
    assert "step-00000002" in complaint
    assert "damaged" in complaint


def test_no_usable_state_is_an_error(tmp_path: Path) -> None:
    """Without any state, or with damaged ones alone, the message says what to do."""
    folder = StateFolder(tmp_path)
    with pytest.raises(StateError, match="no saved state to resume from; start the run without --resume"):
        folder.load()
    (folder.save(state(1)) / "rest.pt").unlink()
    with pytest.raises(StateError, match=r"(?s)step-00000001.*every saved state is damaged; start the run anew"):
        folder.load()


def test_a_killed_save_leaves_no_trace(tmp_path: Path) -> None:
    """A folder that a kill left half-written is no state, and the next save clears it away."""
    folder = StateFolder(tmp_path)
    folder.save(state(1))
    (tmp_path / ".step-00000002").mkdir()
    (tmp_path / ".step-00000002" / "weights.safetensors").write_bytes(b"half")
    assert folder.load()[0].step == 1
    folder.save(state(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_a_damaged_state_is_replaced_when_training_reaches_it_again(tmp_path: Path) -> None:
    """Saving the step of a damaged state puts a whole one in its place."""
    folder = StateFolder(tmp_path)
    folder.save(state(1))
    (folder.save(state(2)) / "manifest.json").write_text(json.dumps({"step": 2}))
    folder.save(state(2))
    assert folder.load()[1] == []
