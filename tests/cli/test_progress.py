"""A run as the terminal shows it."""

import io

import pytest
from rich.console import Console

from ubertrain.cli.progress import ProgressView
from ubertrain.training.records import StepRecord

LOSSES = {"boxes": 1.5, "segmentation": 0.25, "depth": 0.125, "normals": 0.5, "boundaries": 0.75}
RECORD = StepRecord(2, LOSSES, 0.01, 1.0, 12.5, 3 * 2**20, {"rooms": 8}, 4)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_record_is_shown_whole(terminal: bool) -> None:
    """Losses, speed, memory and what was left out can be read, in a narrow terminal as in a file."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=60, soft_wrap=True, color_system=None)
    with ProgressView(console, 10) as view:
        view.advanced(2)
        view.stepped(RECORD)
    shown = " ".join(text.getvalue().split())
    for part in ("boxes 1.500", "boundaries 0.750", "12.5 images/s", "peak 3.00 MiB", "4 left out"):
        assert part in shown
