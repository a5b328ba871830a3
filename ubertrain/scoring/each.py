"""One function over many pairs of files, in one process or in several."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

Watch = Callable[[int, int], None]
"""Is told how many of how many images are done."""


def unwatched(done: int, total: int) -> None:
    """A `Watch` that does nothing."""


def each(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int = 1, watch: Watch = unwatched
) -> Iterator[Result]:
    """`function` of every item, in their order, whatever the number of processes: sums over the results are always the same.

    Args:
        function: a function of a module, or a `functools.partial` of one, since it travels to other processes.
        items: what to call it on.
        workers: processes; 0 = one per core. 1 works in this one.
        watch: is told after each.

    Raises:
        Whatever `function` raises, also in another process.
    """
    workers = min(workers or _cores(), len(items))
    watch(0, len(items))
    if workers <= 1:
        for done, item in enumerate(items, 1):
            yield function(item)
            watch(done, len(items))
        return
    # spawn, because threads of torch do not survive a fork
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        for done, result in enumerate(pool.imap(function, items), 1):
            yield result
            watch(done, len(items))


def _cores() -> int:
    """Those this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
