"""What a run leaves on disk, and where."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ubertrain.errors import ConfigError
from ubertrain.training.config import Config, load
from ubertrain.training.records import Scores, finite
from ubertrain.training.state import StateFolder


@dataclass(frozen=True)
class RunFolder:
    """A folder with config.yaml (everything filled in), metrics.jsonl, state/, pictures/ and report.json.

    Attributes:
        path: the folder; need not exist yet.
    """

    path: Path

    @classmethod
    def new(cls, config_file: Path, root: Path = Path("runs")) -> "RunFolder":
        """The first of `root/NAME`, `root/NAME-2`, ... that does not exist, NAME being that of the configuration."""
        number = 1
        while _numbered(root, config_file, number).exists():
            number += 1
        return cls(_numbered(root, config_file, number))

    @classmethod
    def latest(cls, config_file: Path, root: Path = Path("runs")) -> "RunFolder":
        """The last of those that exist.

        Raises:
            ConfigError: none does.
        """
        number = 1
        while _numbered(root, config_file, number).exists():
            number += 1
        if number == 1:
            raise ConfigError(f"{_numbered(root, config_file, 1)}: there is no run to resume; start it without --resume")
        return cls(_numbered(root, config_file, number - 1))

    @property
    def config_file(self) -> Path:
        """The configuration, everything filled in."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line; see `JsonLines`."""
        return self.path / "metrics.jsonl"

    @property
    def pictures(self) -> Path:
        """Sheets of image, truth and prediction, one per task."""
        return self.path / "pictures"

    @property
    def report_file(self) -> Path:
        """The tables of the end, as JSON."""
        return self.path / "report.json"

    @property
    def states(self) -> StateFolder:
        """The saved states."""
        return StateFolder(self.path / "state")

    def begin(self, config: Config) -> None:
        """Make the folder and write the configuration.

        Raises:
            ConfigError: the folder holds a run already.
        """
        if self.config_file.exists():
            raise ConfigError(f"{self.path} holds a run already; continue it with --resume, or name another folder with --run")
        self.path.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(config.dump())

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The configuration of the run, with `overrides` ("a.b=value").

        Raises:
            ConfigError: the folder holds no run.
        """
        if not self.config_file.exists():
            raise ConfigError(f"{self.path} holds no run: there is no {self.config_file.name} in it")
        return load(self.config_file, overrides)

    def first_scores(self) -> Scores:
        """The scores before the first step, from metrics.jsonl; none if they are not there."""
        lines = self.metrics_file.read_text().splitlines() if self.metrics_file.exists() else []
        for record in map(json.loads, lines):
            if record.get("event") == "evaluation" and record["step"] == 0:
                return {task: _floats(scores) for task, scores in record["scores"].items()}
        return {}

    def write_report(self, report: Any) -> None:
        """Write `report`, which JSON can hold but for numbers that are not finite."""
        self.report_file.write_text(json.dumps(finite(report), indent=1) + "\n")


def _numbered(root: Path, config_file: Path, number: int) -> Path:
    return root / (config_file.stem if number == 1 else f"{config_file.stem}-{number}")


def _floats(scores: dict[str, float | None]) -> dict[str, float]:
    """JSON's null is our nan."""
    return {name: float("nan") if value is None else value for name, value in scores.items()}
