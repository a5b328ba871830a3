"""What the README shows, run as it stands there."""

import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import ubertrain as ut
from ubertrain.registry import TASKS
from ubertrain.testing import check_task

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def block(language: str, mark: str) -> str:
    """The block of that language that holds `mark`."""
    (found,) = [text for kind, text in BLOCKS if kind == language and mark in text]
    return found


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A folder with the README's task and configuration, as a reader would save them."""
    (tmp_path / "foreground.py").write_text(block("python", "foreground.py"))
    (tmp_path / "foreground.yaml").write_text(block("yaml", "foreground.yaml"))
    return tmp_path


def test_the_loop_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example around modules of one's own trains and says a peak."""
    script = tmp_path / "loop.py"
    script.write_text(block("python", "ut.Engine"))
    result = runpy.run_path(str(script))
    assert set(result["losses"]) == {"light", "pose"}
    assert re.match(r"\d+ bytes at the peak", capsys.readouterr().out)


def test_the_task_is_short() -> None:
    """A task is one file of some forty lines of code."""
    lines = [line for line in block("python", "foreground.py").splitlines() if line.strip()]
    assert len(lines) <= 40


def test_the_task_conforms(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task of the README passes the public conformance check."""
    monkeypatch.syspath_prepend(experiment)
    monkeypatch.setattr(TASKS, "_paths", dict(TASKS._paths))  # what the file registers is forgotten with it
    monkeypatch.setattr(TASKS, "_classes", dict(TASKS._classes))
    task = importlib.import_module("foreground").Foreground
    check_task(task())
    assert issubclass(task, ut.Task)


def test_the_task_trains_from_the_command_line(experiment: Path) -> None:
    """The README's command trains the README's task by its import path, beside a built-in one."""
    command = next(line for kind, text in BLOCKS if not kind for line in text.splitlines() if "foreground.yaml" in line)
    program = Path(sys.executable).with_name("ubertrain")
    run = subprocess.run([program, *command.split()[1:]], cwd=experiment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "foreground" in run.stdout and "IoU" in run.stdout
