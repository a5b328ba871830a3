"""Processes that are killed or asked to stop, and what is left of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rooms import write_config, write_rooms

ROOT = Path(__file__).parents[2]
TASKS = {"depth": {"taps": ["res2"], "width": 8}, "segmentation": {"taps": ["res2"], "width": 8}}
STEPS = 30
MORE = {"tasks": TASKS, "steps": STEPS, "save_every": 5, "pictures": 0}


def start(*words: object) -> subprocess.Popen[str]:
    """`python -m ubertrain WORDS...` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ubertrain", *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_state(run: Path, process: subprocess.Popen[str]) -> None:
    """Until the run has saved a first state."""
    limit = time.monotonic() + 120
    while not list((run / "state").glob("step-*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.02)


def last_state(run: Path) -> dict[str, bytes]:
    """The bytes of the files of the last state but its manifest, which holds only what follows from them."""
    return {name: (run / "state" / f"step-{STEPS:08d}" / name).read_bytes() for name in ("weights.safetensors", "rest.pt")}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_run_resumes_as_if_nothing_had_happened(
    ubertrain: Callable[..., Any], tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    """Killed at a random moment and resumed, a run ends in the same bytes as one that was left alone."""
    data = write_rooms(tmp_path / "data", parts=(("class_map",), ("depth",), ("class_map", "depth")))
    config = write_config(tmp_path, data, MORE)
    whole = ubertrain("train", config, "--run", tmp_path / "whole", "--set", f"data.workers={workers}")
    assert whole.code == 0, whole.err

    process = start("train", config, "--run", tmp_path / "killed", "--set", f"data.workers={workers}")
    wait_for_state(tmp_path / "killed", process)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), said
    if number != signal.SIGKILL:
        assert f"stopped by {number.name} after step" in said

    resumed = ubertrain("train", config, "--run", tmp_path / "killed", "--resume", "--set", f"data.workers={workers}")
    assert resumed.code == 0, resumed.err
    assert last_state(tmp_path / "killed")["weights.safetensors"] == last_state(tmp_path / "whole")["weights.safetensors"]
    lines = [(tmp_path / name / "metrics.jsonl").read_text().count('"event": "step"') for name in ("killed", "whole")]
    assert lines[0] >= lines[1]
