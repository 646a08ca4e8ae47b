"""Signals that ask a process to end: the first is heard in good order, a second ends it at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "asked_to_stop"]

_ASKING = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """Somebody has asked this process to end: no error, and what it has begun goes on later."""


def _raise() -> None:
    raise Stopped


@contextmanager
def asked_to_stop(tell: Callable[[], None] = _raise) -> Iterator[None]:
    """Within this context SIGTERM and SIGINT are told; a second one does what it does elsewhere.

    Args:
        tell: is called in the main thread, once; by default it raises :class:`Stopped` there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = {number: signal.getsignal(number) for number in _ASKING}

    def heard(number: int, frame: FrameType | None) -> None:
        for each in _ASKING:
            signal.signal(each, signal.SIG_DFL if each == signal.SIGTERM else before[each])
        tell()

    for number in _ASKING:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
