"""Mail that comes in at one end: letters in pieces, across as many connections as it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from fedmodel import config
from fedmodel.errors import ProtocolError
from fedmodel.transport.frames import Chunk, Letter, Partial
from fedmodel.transport.letters import SIGNATURE, Order, Reply, verified_header
from fedmodel.transport.payloads import Arrival

__all__ = ["Mail", "Source"]

L = TypeVar("L", Order, Reply)
_MOST = 64  # letters under way at once


@dataclass(frozen=True, slots=True)
class Source(Generic[L]):
    """Whose letters may come.

    Args:
        kind: of letter.
        key: public Ed25519 key that signs them.
        check: refuses a header that isn't for here, or not of now; it raises FedmodelError. It
            returns whether anybody waits for the letter.
        most: bytes that a payload may have.
        folder: for large payloads.
    """

    kind: type[L]
    key: bytes
    check: Callable[[L], bool]
    most: int
    folder: Path


class Mail(Generic[L]):
    """Letters from one other end.

    Args:
        source: whose, and what may be in them.
    """

    def __init__(self, source: Source[L]) -> None:
        self._source: Source[L] = source
        self._arrivals: dict[int, Arrival[L]] = {}
        self._latest = 0  # numbers rise

    def partial(self) -> tuple[Partial, ...]:
        """Return what has come of letters that aren't complete."""
        return tuple(arrival.partial() for arrival in self._arrivals.values())

    def begin(self, letter: Letter, body: memoryview) -> tuple[L, Arrival[L] | None]:
        """Take a frame with which a letter begins, or goes on after a cut.

        Args:
            letter: the frame's head.
            body: of the frame.

        Returns:
            The letter's header, which has verified, and what has come of its payload; ``None``
            where nobody waits for it.

        Raises:
            ProtocolError: for anything else.
            RunFolderError: when the disk doesn't take its bytes.
        """
        source, end = self._source, letter.header + SIGNATURE
        if len(body) < end:
            raise ProtocolError("a letter's first frame must have its whole header")
        text = bytes(body[: letter.header])
        header = verified_header(source.kind, text, bytes(body[letter.header : end]), source.key)
        self._latest = max(self._latest, header.seq)
        if not source.check(header):
            self.pass_over(header.seq)
            return header, None
        arrival = self._arrival(header, text)
        if letter.offset == 0 and arrival.received:
            # The sender hasn't heard what had come: from the first byte again.
            self.pass_over(header.seq)
            arrival = self._arrival(header, text)
        arrival.add(letter.offset, body[end:])
        self._settle(arrival)
        return header, arrival

    def go_on(self, chunk: Chunk, body: memoryview) -> Arrival[L] | None:
        """Take more of a letter; ``None`` for one that is passed over.

        Raises:
            ProtocolError: for a letter that hasn't begun.
            RunFolderError: when the disk doesn't take its bytes.
        """
        arrival = self._arrivals.get(chunk.seq)
        if arrival is None:
            if chunk.seq <= self._latest:
                return None
            raise ProtocolError("bytes came of a letter that hasn't begun")
        arrival.add(chunk.offset, body)
        self._settle(arrival)
        return arrival

    def pass_over(self, seq: int) -> None:
        """Forget a letter: what is still under way of it is passed over."""
        arrival = self._arrivals.pop(seq, None)
        if arrival is not None:
            arrival.close()

    def pass_over_others(self, seq: int) -> None:
        """Forget all letters but one."""
        for each in [each for each in self._arrivals if each != seq]:
            self.pass_over(each)

    def forget(self) -> None:
        """Forget what isn't complete."""
        for seq in list(self._arrivals):
            self.pass_over(seq)

    def _arrival(self, header: L, text: bytes) -> Arrival[L]:
        digest = config.sha256(text)
        known = self._arrivals.get(header.seq)
        if known is not None and known.digest == digest:
            return known
        if known is not None:
            raise ProtocolError(f"two letters have the number {header.seq}")
        if len(self._arrivals) >= _MOST:
            raise ProtocolError(f"more than {_MOST} letters are under way at once")
        made = Arrival(header, digest, self._source.folder, self._source.most)
        self._arrivals[header.seq] = made
        return made

    def _settle(self, arrival: Arrival[L]) -> None:
        if arrival.complete:
            self._arrivals.pop(arrival.header.seq, None)
