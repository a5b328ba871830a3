"""A training run as a terminal shows it."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from ubertrain.cli.output import number
from ubertrain.training.records import Listener, PeakRecord, Scores, StepRecord
from ubertrain.units import format_bytes


class ProgressView(Listener):
    """A bar with the time left and a line of losses, speed and memory; where there is no terminal, a line per record."""

    def __init__(self, console: Console, steps: int) -> None:
        self.console = console
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=steps)
        self._line = Text("")
        self._live = Live(self._view(), console=console, transient=False, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def began(self, work: str) -> None:
        self._bar.update(self._task, description=work)
        if not self.console.is_terminal:
            self.console.print(work, markup=False)

    def advanced(self, step: int) -> None:
        self._bar.update(self._task, completed=step)

    def stepped(self, record: StepRecord) -> None:
        # The console leaves long lines to the terminal, which the moving part of the screen cannot.
        self._line = Text(f"step {record.step}: {summary(record)}", no_wrap=False, overflow="fold")
        if self.console.is_terminal:
            self._live.update(self._view())
        else:
            self.console.print(self._line)

    def peaked(self, record: PeakRecord) -> None:
        self.console.print(f"first step: {peaks(record)}", markup=False)

    def evaluated(self, step: int, scores: Scores) -> None:
        first = {task: next(iter(by_name.items())) for task, by_name in scores.items()}
        parts = (f"{task} {name} {number(value)}" for task, (name, value) in first.items())
        self.console.print(f"after step {step}: {', '.join(parts) or 'no validation set, so no scores'}", markup=False)

    def noted(self, text: str) -> None:
        self.console.print(text, markup=False, style="yellow")

    def _view(self) -> Group:
        return Group(self._bar, self._line)


def peaks(record: PeakRecord) -> str:
    """The two peaks side by side, in one line."""
    off = f"{100 * (record.measured / record.predicted - 1):+.1f} %" if record.predicted else "nothing was labelled"
    return f"peak {format_bytes(record.predicted)} predicted, {format_bytes(record.measured)} measured ({off})"


def summary(record: StepRecord) -> str:
    """Loss per task, images per second and peak bytes, in one line."""
    parts = [f"{task} {loss:.3f}" for task, loss in record.losses.items()]
    if record.images_per_second is not None:
        parts.append(f"{record.images_per_second:.1f} images/s")
    if record.peak_bytes is not None:
        parts.append(f"peak {format_bytes(record.peak_bytes)}")
    if record.skipped:
        parts.append(f"{record.skipped} left out")
    return ", ".join(parts)
