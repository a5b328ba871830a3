"""What the system says about free memory."""

from pathlib import Path

import pytest
import torch

from ubertrain.errors import ConfigError
from ubertrain.training import free_memory
from ubertrain.training.free_memory import free_bytes

CPU = torch.device("cpu")
MEMINFO = "MemTotal: 4000 kB\nMemFree: 100 kB\nMemAvailable: 3000 kB\n"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the system's: `meminfo`, and the files of a control group."""
    monkeypatch.setattr(free_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "_GROUP", tmp_path)
    return tmp_path


def limit(system: Path, most: str) -> None:
    """Put this process into a group that has taken 900 kB, 200 of them for files that can be dropped."""
    (system / "memory.max").write_text(f"{most}\n")
    (system / "memory.current").write_text(f"{900 * 1024}\n")
    (system / "memory.stat").write_text(f"anon {700 * 1024}\ninactive_file {200 * 1024}\n")


def test_free_is_what_can_be_had_without_swapping(system: Path) -> None:
    """Not what nobody uses at this moment: caches can be dropped."""
    (system / "meminfo").write_text(MEMINFO)
    assert free_bytes(CPU) == 3000 * 1024


@pytest.mark.parametrize(("most", "expected"), [("max", 3000), (str(1500 * 1024), 800), (str(100 * 1024), 0)])
def test_a_container_has_what_is_left_of_its_limit(system: Path, most: str, expected: int) -> None:
    """The machine may have more than the container may take."""
    (system / "meminfo").write_text(MEMINFO)
    limit(system, most)
    assert free_bytes(CPU) == expected * 1024


def test_a_system_that_does_not_tell_is_an_error(system: Path) -> None:
    """The message says what to write in place of auto."""
    with pytest.raises(ConfigError, match=r"give memory\.budget a number of bytes, like 6GiB"):
        free_bytes(CPU)


def test_reserved_blocks_that_no_tensor_uses_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU torch's allocator keeps what was freed, and gives it out again."""
    for name, value in {"memory_reserved": 70, "memory_allocated": 50, "mem_get_info": (1000, 4000)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(torch.device("cuda")) == 1020
