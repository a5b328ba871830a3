"""Worker processes end quietly, and say so when they fail."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from ubertrain.data.workers import end_workers, start_worker

_ROOT = Path(__file__).parents[2]
_SPAWN = """
import multiprocessing, sys, threading, time
import torch
from ubertrain.data.workers import start_worker

def share():
    while True:
        torch.zeros(1).untyped_storage()._share_fd_cpu_()

def work(fails):
    start_worker(0)
    threading.Thread(target=share, daemon=True).start()
    time.sleep(0.2)
    print("done")
    if fails:
        raise KeyError("a mistake in a worker")

if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=work, args=(sys.argv[1] == "fails",))
    worker.start()
    worker.join()
    sys.exit(worker.exitcode)
"""


def _spawned(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    """A process that starts a worker, whose exit status it takes over; another thread of that worker is inside of torch."""
    (folder / "spawning.py").write_text(_SPAWN)
    command = [sys.executable, "-W", "error", str(folder / "spawning.py"), how]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_spawned_worker_ends_while_its_threads_are_inside_of_torch(tmp_path: Path) -> None:
    """It is not aborted by C++, what it printed appears, and nothing else does."""
    done = _spawned(tmp_path, "succeeds")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.slow
def test_a_worker_that_fails_says_so(tmp_path: Path) -> None:
    """With the traceback, and an exit status that is not 0."""
    done = _spawned(tmp_path, "fails")
    assert done.returncode != 0
    assert "KeyError: 'a mistake in a worker'" in done.stderr


def test_ending_workers_ends_the_threads_that_served_them() -> None:
    """Also where this thread does not let others run between; a thread that goes on has its locks while Python ends."""
    loader: Any = DataLoader(range(100), batch_size=None, num_workers=2, worker_init_fn=start_worker)  # type: ignore[arg-type]
    before, interval = threading.active_count(), sys.getswitchinterval()
    iterator = iter(loader)
    next(iterator)
    assert threading.active_count() == before + 2
    sys.setswitchinterval(10)
    try:
        end_workers(iterator)
        assert threading.active_count() == before
    finally:
        sys.setswitchinterval(interval)
