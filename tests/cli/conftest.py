"""The command line as tests call it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.rooms import write_config, write_rooms
from ubertrain.cli.main import app


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document it must be."""
        return json.loads(self.out)


def call(*words: object) -> Outcome:
    """Run `ubertrain WORDS...` in this process; a bug of ours is raised, not an exit code."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def ubertrain(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The command `ubertrain`, in an empty folder of its own."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    return call


@dataclass(frozen=True)
class Trained:
    """A finished run and what it was made of."""

    run: Path
    config: Path
    data: Path
    outcome: Outcome


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The room experiment, trained for four steps with `--json --compare-memory`."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_rooms(folder / "data")
    config = write_config(folder, data)
    outcome = call("train", config, "--run", folder / "run", "--json", "--compare-memory")
    return Trained(folder / "run", config, data, outcome)
