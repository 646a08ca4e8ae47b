"""Stamps of made-up orders, and an inbox's store in memory that outlives a process of a site."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fedmodel.errors import RunFolderError
from fedmodel.transport.inbox import Noted, Part
from fedmodel.transport.stamps import Stamp

RUN = "demo-0123abcd"
ONE, TWO = "1" * 32, "2" * 32


def digest(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def stamp(seq: int, epoch: int = 1, start: str = ONE, order: object = "order") -> Stamp:
    return Stamp(RUN, epoch, start, seq, digest((order, seq)))


class Memory:
    """A disk that may be full."""

    def __init__(self) -> None:
        self.noted: dict[str, Noted] = {}
        self.replies: dict[Stamp, bytes] = {}
        self.full = False

    @contextmanager
    def locked(self, run: str) -> Iterator[None]:
        yield

    def read(self, run: str) -> Noted:
        return self.noted.get(run, Noted())

    def note(self, run: str, noted: Noted) -> None:
        self._room()
        self.noted[run] = noted
        open_ = noted.stamps(run)
        self.replies = {s: r for s, r in self.replies.items() if s.run != run or s in open_}

    def keep(self, stamp: Stamp, parts: Sequence[Part], first: int = 0, sha256: str = "") -> None:
        self._room()
        self.replies[stamp] = b"".join(parts)

    def has(self, stamp: Stamp) -> bool:
        return stamp in self.replies

    def reply(self, stamp: Stamp) -> tuple[memoryview, ...]:
        return (memoryview(self.replies[stamp]),)

    def drop(self, stamp: Stamp) -> None:
        self.replies.pop(stamp, None)

    def _room(self) -> None:
        if self.full:
            raise RunFolderError("can't write: No space left on device")
