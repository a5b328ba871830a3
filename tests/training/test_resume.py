"""Which saved states fit a configuration."""

import json
from pathlib import Path

import pytest

from tests.rooms import write_config, write_rooms
from ubertrain.errors import StateError
from ubertrain.training.build import make_model, make_readers
from ubertrain.training.config import load
from ubertrain.training.resume import changes, require_fit
from ubertrain.training.state import State


def state_of(folder: Path, *overrides: str) -> tuple[State, object, object]:
    """A state of the room experiment with `overrides`, its graph and its configuration."""
    root = folder / "data"
    config = load(write_config(folder, root if root.exists() else write_rooms(root)), overrides)
    graph = make_model(config, make_readers(config, "train")).graph
    return State(3, graph.state_dict(), {"config": config.model_dump_json()}), graph, config


def test_a_state_fits_its_own_configuration(tmp_path: Path) -> None:
    """Nothing is wrong and nothing has changed."""
    state, graph, config = state_of(tmp_path)
    require_fit(state, graph, config)
    assert changes(state, config) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trunk.width=16", r"trunk\..* is \(8, .*\), expected \(16, "),
        ("tasks.depth.width=16", r"heads\.depth\..* is \(8, .*\), expected \(16, .*; and \d+ more; resume with"),
        ("optimizer.type=adamw", r"optimizer\.type is sgd, expected adamw"),
    ],
)
def test_another_model_or_optimizer_is_refused(tmp_path: Path, override: str, message: str) -> None:
    """What differs is named; the weights are never loaded in part."""
    state, _, _ = state_of(tmp_path)
    _, graph, config = state_of(tmp_path, override)
    with pytest.raises(StateError, match=f"saved state of step 3 belongs to another configuration: {message}"):
        require_fit(state, graph, config)


@pytest.mark.parametrize("finer", [False, True])
def test_other_stages_are_refused_by_their_key(tmp_path: Path, finer: bool) -> None:
    """Finer stages name the same weights differently; the message names the key, where it stands, and what to set it to."""
    was, now = (str(value).lower() for value in (finer, not finer))
    state, _, _ = state_of(tmp_path, f"memory.finer={was}")
    _, graph, config = state_of(tmp_path, f"memory.finer={now}")
    with pytest.raises(StateError, match=rf"was made with memory\.finer: {was}, but --set memory\.finer={now} has {now}.*; set "
                                         rf"memory\.finer: {was}, or start a new run"):  # fmt: skip
        require_fit(state, graph, config)


def test_a_state_from_before_finer_stages_fits(tmp_path: Path) -> None:
    """It had none."""
    state, graph, config = state_of(tmp_path)
    saved = json.loads(state.rest["config"])
    del saved["memory"]["finer"]
    require_fit(State(3, state.weights, {"config": json.dumps(saved)}), graph, config)


def test_other_changes_are_told(tmp_path: Path) -> None:
    """A key that has another value now is listed with both."""
    state, _, _ = state_of(tmp_path)
    _, graph, config = state_of(tmp_path, "optimizer.lr=0.5", "clip=1.0")
    require_fit(state, graph, config)
    assert changes(state, config) == ["optimizer.lr: 0.01 -> 0.5", "clip: None -> 1.0"]
