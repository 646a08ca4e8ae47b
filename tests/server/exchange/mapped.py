"""Answers as a transport spools them: payloads in files, which are mapped into memory.

What a coordinator takes beside them, and how many it holds on to, is measured from when it has got
its answers to when it asks the next time.
"""

import itertools
import mmap
import tracemalloc
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.app import Message, RecordDict

from fedmodel.wire import packed, unpacked
from simulations.loopback import LoopbackGrid

__all__ = ["Spool", "grid_in", "measured"]


class Spool:
    """A folder of payloads.

    Args:
        folder: that there is.

    Attributes:
        took: kind of message → bytes of memory that its answers have taken at most.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self._since: tuple[str, int] | None = None
        self.took: dict[str, int] = {}

    @property
    def held(self) -> int:
        """How many payloads somebody holds."""
        return len(self._mapped)

    def through(self, message: Message) -> Message:
        """Return a message as it is when its content has been in a file."""
        if message.has_error():
            return message
        path = self._folder / str(next(self._numbers))
        with path.open("wb") as file:
            file.writelines(packed(message.content))
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        path.unlink()  # on a disk until nobody holds it
        self._mapped.add(mapped)
        content = unpacked(memoryview(mapped))
        assert isinstance(content, RecordDict)
        return Message(content, metadata=message.metadata)  # type: ignore[no-any-return,call-overload]

    def begin(self, kind: str) -> None:
        """Begin to measure: answers of a kind have come."""
        if tracemalloc.is_tracing():
            tracemalloc.reset_peak()
            self._since = (kind, tracemalloc.get_traced_memory()[0])

    def end(self) -> None:
        """End it: all that was to be done with them is done."""
        if self._since is not None:
            kind, before = self._since
            found = tracemalloc.get_traced_memory()[1] - before
            self.took[kind] = max(found, self.took.get(kind, 0))
            self._since = None


def grid_in(spool: Spool) -> Any:
    """Return the class of a loopback grid whose answers lie in a spool."""

    class Mapped(LoopbackGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterable[Message]:
            spool.end()
            asked = list(messages)
            replies = [spool.through(self._deliver(message)) for message in asked]
            spool.begin(asked[0].metadata.message_type)
            return replies

    return Mapped


@contextmanager
def measured(spool: Spool) -> Iterator[Callable[[], None]]:
    """Measure memory in a block."""
    tracemalloc.start()
    try:
        yield spool.end
        spool.end()
    finally:
        tracemalloc.stop()
