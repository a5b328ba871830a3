"""Ctrl-C and SIGTERM as a wish to stop after the present step."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupted(Exception):
    """The run was asked to stop; everything that was trained is saved."""


class Interrupt:
    """While entered, the first Ctrl-C or SIGTERM only sets `requested`; the second acts as it would without us.

    Outside the main thread, where Python allows no signal handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._give_back()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        self._give_back()

    def _give_back(self) -> None:
        while self._earlier:
            signal.signal(*self._earlier.popitem())
