"""Python's collector of cycles, which stands still while a run's records are read and checked.

They are some hundred thousand entries, which stay until the end and have no cycle among them. Each
of them would be looked at again and again: of a long run's verification that is a fifth. A verb
lets it stand still until it has let go of them, as right after the checks all would be looked at.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused"]


@contextmanager
def paused(*, verb: bool = False) -> Iterator[None]:
    """Let nothing be collected meanwhile; where that was so before, it stays so.

    Nothing is kept from the collector for good: a process may go on with things of its own.

    Args:
        verb: whether nothing is left to be done but to end: then all modules aren't looked at
            once more, either.
    """
    if not gc.isenabled():
        yield
        return
    if verb:
        atexit.unregister(gc.freeze)
        atexit.register(gc.freeze)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
