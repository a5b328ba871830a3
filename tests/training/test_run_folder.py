"""Where runs are written."""

from pathlib import Path

import pytest

from tests.rooms import write_config
from ubertrain.errors import ConfigError
from ubertrain.training.config import load
from ubertrain.training.run_folder import RunFolder


def test_a_new_run_never_overwrites(tmp_path: Path) -> None:
    """Runs of one configuration get a name of their own each, and the latest is found again."""
    config = load(write_config(tmp_path, tmp_path))
    names = []
    for _ in range(3):
        folder = RunFolder.new(Path("configs/demo.yaml"), tmp_path / "runs")
        folder.begin(config)
        names.append(folder.path.name)
    assert names == ["demo", "demo-2", "demo-3"]
    assert RunFolder.latest(Path("configs/demo.yaml"), tmp_path / "runs") == folder
    with pytest.raises(ConfigError, match="demo-3 holds a run already; continue it with --resume"):
        folder.begin(config)


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    """A folder without a run, and a configuration that was never run, are errors."""
    with pytest.raises(ConfigError, match="holds no run"):
        RunFolder(tmp_path).config()
    with pytest.raises(ConfigError, match="demo: there is no run to resume"):
        RunFolder.latest(Path("demo.yaml"), tmp_path)


def test_the_configuration_comes_back(tmp_path: Path) -> None:
    """The configuration of a folder is the one the run began with, and may be changed by overrides."""
    config = load(write_config(tmp_path, tmp_path))
    folder = RunFolder(tmp_path / "run")
    folder.begin(config)
    assert folder.config().model_dump() == config.model_dump()
    assert folder.config(["data.batch=2"]).data.batch == 2
