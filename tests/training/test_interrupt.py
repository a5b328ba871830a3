"""Ctrl-C and SIGTERM."""

import os
import signal
import threading

import pytest

from ubertrain.training.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish(number: signal.Signals) -> None:
    """The first signal is noted and its handler given back, so that the second one works as usual."""
    earlier = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert interrupt.requested is None
        os.kill(os.getpid(), number)
        assert interrupt.requested == number.name
        assert signal.getsignal(number) is earlier
    assert signal.getsignal(number) is earlier


def test_handlers_are_given_back() -> None:
    """After a run without signals both handlers are what they were."""
    earlier = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupt():
        assert signal.getsignal(signal.SIGINT) is not earlier[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == earlier


def test_another_thread_may_enter() -> None:
    """In a thread that may not set handlers it changes nothing."""
    seen: list[object] = []

    def run() -> None:
        with Interrupt() as interrupt:
            seen.extend([interrupt.requested, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [None, signal.getsignal(signal.SIGINT)]
