"""Where figures come from: hardware, versions, commit and date."""

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch


def machine(device: str = "cpu") -> dict[str, Any]:
    """What a reader needs to place a measurement."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def line(machine: dict[str, Any]) -> str:
    """The same for people."""
    return ", ".join(f"{key} {value}" for key, value in machine.items())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [row.split(":", 1)[1].strip() for row in _lines(info) if row.startswith("model name")]
    return f"{names[0]}, {platform.machine()}" if names else platform.processor() or platform.machine()


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _commit() -> str:
    """Short, with a + if tracked files have changed since; empty outside of a repository."""
    folder = Path(__file__).parent
    name = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(name, capture_output=True, text=True, check=False).stdout.strip()
