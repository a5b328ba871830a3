"""How worker processes begin and end: quietly, and by their parent alone."""

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Generator
from multiprocessing import util
from typing import Any, TypeVar

T = TypeVar("T")

_RUNNING: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()


def closed_at_exit(batches: Generator[T, None, None]) -> Generator[T, None, None]:
    """`batches`, to be closed before Python ends.

    Closing ends its workers in order. Left to multiprocessing, a worker that has not started yet would die by a signal, which
    torch reports on the terminal.
    """
    _RUNNING.add(batches)
    return batches


@atexit.register
def _close_all() -> None:
    for running in list(_RUNNING):
        with contextlib.suppress(ValueError):  # it is at work in another thread
            running.close()


def end_workers(iterator: Any) -> None:
    """End the workers of a torch loader's iterator now; after an error they would live as long as its traceback.

    So do the threads here that sent them their orders. Left alone, as torch leaves them, one may be stopped by the end of
    Python between removing a semaphore and saying so, and what keeps count of semaphores complains on the terminal.
    """
    if shut_down := getattr(iterator, "_shutdown_workers", None):  # an iterator without workers has none
        shut_down()
        for orders in iterator._index_queues:
            if orders._closed and orders._thread is not None:
                orders._thread.join(_PATIENCE)


def start_worker(worker: int) -> None:
    """Leave interrupts to the parent, which may want to finish its step: terminals and schedulers send them to all.

    The parent itself ends workers by SIGTERM, and that must work, or it would wait for them for ever. torch sets one thread for
    each worker.
    """
    util.Finalize(None, _leave_at_once, exitpriority=_LAST)
    parent = multiprocessing.parent_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent is not None and hasattr(signal, "sigwaitinfo"):  # macOS has no way to know the sender
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_by, args=(parent.pid,), daemon=True).start()


_PATIENCE = 5.0
"""Seconds, as torch has with a worker. A thread whose worker was killed may wait for ever for room in a pipe."""
_LAST = -1000
"""Behind everything that multiprocessing itself does at the end of a process, such as to close queues."""


def _leave_at_once() -> None:
    """Have a spawned worker that has done its work end without taking Python down, as forked ones do.

    The thread that sends batches may be inside of torch, and is not waited for. Python would end it by unwinding its stack as
    soon as it asks for the interpreter, which C++ answers with "terminate called without an active exception" and SIGABRT.
    """
    if sys.exc_info()[0] is None:  # else the error has yet to be printed, and to become the exit status
        atexit.register(os._exit, 0)


def _end_by(parent: int) -> None:
    """Wait for a SIGTERM of process `parent`, and end."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
