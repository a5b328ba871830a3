"""How much memory a device has free for training."""

from pathlib import Path

import torch

from ubertrain.errors import ConfigError

SHARE = {"cuda": 0.9, "cpu": 0.7}
"""Device type -> the share of its free bytes that training may plan with.

On a GPU the rest is for what the allocator cannot give out because it lies in pieces, and for the workspaces of kernels. On a
CPU it is for what torch does not count (scratch memory of kernels, worker processes that read images) and for others.
"""

_MEMINFO, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that this process could still take on `device`, whole, not the share of it.

    On a CUDA device what torch's allocator holds in reserve and no tensor uses counts as free. On a CPU it is what the system
    could give without swapping, or what is left of this container's limit.

    Raises:
        ConfigError: the system does not tell.
    """
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    free = _available()
    if free is None:
        raise ConfigError("this system does not tell how much memory is free; give memory.budget a number of bytes, like 6GiB")
    limit = _left_in_group()
    return free if limit is None else min(free, limit)


def _available() -> int | None:
    """Linux's own estimate of what can be had without swapping."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _left_in_group() -> int | None:
    """What is left of the limit of this process's control group, where files that are only cached count as free."""
    try:
        limit, current = (_GROUP / "memory.max").read_text().strip(), int((_GROUP / "memory.current").read_text())
        pairs = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - current + int(pairs.get("inactive_file", 0)))
