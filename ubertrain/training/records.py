"""What a run tells whoever listens, and the listeners that write it down."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ubertrain.errors import ConfigError

Scores = dict[str, dict[str, float]]
"""task -> score name -> value, the task's primary score first."""


@dataclass(frozen=True)
class StepRecord:
    """The steps since the last record.

    Attributes:
        step: optimizer steps taken so far.
        losses: task -> its weighted loss, mean over those of the steps that had labels for it.
        lr: learning rate of the trunk in the last of the steps.
        gradient_norm: of the whole gradient in the last of the steps, before clipping.
        images_per_second: over the steps, those whose memory was measured left out; None if all were.
        peak_bytes: of the last step, its parameters, gradients and optimizer state not counted; None if it was not measured.
        draws: data set -> how many of its images have been trained on so far.
        skipped: samples left out so far because they could not be read.
    """

    step: int
    losses: Mapping[str, float]
    lr: float
    gradient_norm: float
    images_per_second: float | None
    peak_bytes: int | None
    draws: Mapping[str, int]
    skipped: int


@dataclass(frozen=True)
class PeakRecord:
    """What was said of the first step, and what came.

    Attributes:
        tasks: that the batch labelled.
        predicted: peak bytes rehearsed for this very batch, static bytes not counted.
        measured: peak bytes of the step itself: on a CUDA device by torch's allocator, workspaces of kernels included.
    """

    tasks: tuple[str, ...]
    predicted: int
    measured: int


class Listener:
    """Hears what happens in a run; each method may be left as it is."""

    def stepped(self, record: StepRecord) -> None:
        """Some steps were taken."""

    def peaked(self, record: PeakRecord) -> None:
        """The first step was taken by a schedule that was fitted to a budget."""

    def advanced(self, step: int) -> None:
        """One step was taken; called for each."""

    def evaluated(self, step: int, scores: Scores) -> None:
        """The validation sets were evaluated after `step` steps."""

    def noted(self, text: str) -> None:
        """Something happened that the user should read."""

    def began(self, work: str) -> None:
        """Something that may take a while has begun: "training", "evaluating", ..."""

    def close(self) -> None:
        """The run is over, however it ended."""


class JsonLines(Listener):
    """Appends one JSON object a line to a file; a value that is not finite is written as null.

    On resuming, lines of steps after the saved state are dropped: those steps are about to be taken again.
    """

    def __init__(self, path: Path, resumed_at: int = 0) -> None:
        kept = [line for line in _lines(path) if _step(line) <= resumed_at] if resumed_at else []
        path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a")

    def stepped(self, record: StepRecord) -> None:
        self._write({"event": "step", **asdict(record)})

    def peaked(self, record: PeakRecord) -> None:
        self._write({"event": "peak", "step": 1, **asdict(record)})

    def evaluated(self, step: int, scores: Scores) -> None:
        self._write({"event": "evaluation", "step": step, "scores": scores})

    def noted(self, text: str) -> None:
        self._write({"event": "note", "text": text})

    def close(self) -> None:
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(finite(record)) + "\n")
        self._file.flush()


class TensorBoard(Listener):
    """Writes the same numbers as TensorBoard events; on resuming, later steps are hidden, as `JsonLines` drops them."""

    def __init__(self, folder: Path, resumed_at: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "tensorboard: true needs the package tensorboard; install it with: pip install 'ubertrain[tb]'"
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=resumed_at + 1 if resumed_at else None)

    def stepped(self, record: StepRecord) -> None:
        values = {f"loss/{task}": value for task, value in record.losses.items()}
        values |= {name: getattr(record, name) for name in ("lr", "gradient_norm", "images_per_second", "peak_bytes")}
        self._add(record.step, values)

    def peaked(self, record: PeakRecord) -> None:
        self._add(1, {"first_step/predicted_bytes": record.predicted, "first_step/measured_bytes": record.measured})

    def evaluated(self, step: int, scores: Scores) -> None:
        self._add(step, {f"{task}/{name}": value for task, by_name in scores.items() for name, value in by_name.items()})

    def noted(self, text: str) -> None:
        self._writer.add_text("notes", text)

    def close(self) -> None:
        self._writer.close()

    def _add(self, step: int, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)


def finite(value: Any) -> Any:
    """`value` with None for every number that is not finite, for which JSON has no word."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _step(line: str) -> float:
    """The step a line speaks of; a line that a kill cut short counts as the future."""
    try:
        return float(json.loads(line).get("step", 0))
    except ValueError:
        return math.inf
