"""Room for orders at a site: bytes of all that have come, or are coming, and aren't done yet."""

import mmap
import weakref
from threading import Lock

__all__ = ["Room"]


class Room:
    """So many bytes, for all runs of a process; several threads may use it.

    Args:
        most: bytes that there are.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0
        self._lock = Lock()

    @property
    def held(self) -> int:
        """Bytes of payloads that are whole and that somebody still has."""
        return self._held

    def hold(self, payload: memoryview) -> None:
        """Count a payload that has come whole, until the last view of it is gone.

        Args:
            payload: in a file; what lies in memory is small, and so many orders wait at most.
        """
        if isinstance(payload.obj, mmap.mmap):
            self._add(payload.nbytes)
            gone = weakref.finalize(payload.obj, self._add, -payload.nbytes)
            gone.atexit = False

    def _add(self, count: int) -> None:
        with self._lock:
            self._held += count
