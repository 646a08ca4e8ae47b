"""Python's collector of cycles, which stands still while a run's records are read and checked.

They are some hundred thousand entries, which stay until the end and have no cycle among them. Each
of them would be looked at again and again: of a long run's verification that is a fifth.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused"]


@contextmanager
def paused() -> Iterator[None]:
    """Let nothing be collected meanwhile; where that was so before, it stays so."""
    if not gc.isenabled():
        yield
        return
    gc.unfreeze()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # nor later, until there are others: it would be the first thing to be done
        gc.enable()
