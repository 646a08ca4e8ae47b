"""Payloads on their way: pieces of a letter going out, and a letter coming in piece by piece.

What is large lies in a file without a name, so that as many letters may be under way as there are
sites, and none is left behind by a process that dies.
"""

import hashlib
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Generic, TypeAlias, TypeVar

from fedmodel.errors import ProtocolError, RunFolderError
from fedmodel.transport.frames import LARGEST_BODY, Chunk, Letter, Partial, encode
from fedmodel.transport.letters import Order, Reply, Signed, sign_header

__all__ = [
    "COVER",
    "Arrival",
    "Departure",
    "Part",
    "departure_of",
    "digest_of",
    "kept_parts",
    "reply_to",
    "size_of",
]

Part: TypeAlias = bytes | memoryview
COVER = 2  # how many parts of a letter that is kept aren't its payload's
L = TypeVar("L", Order, Reply)
_IN_MEMORY = 1 << 20  # bytes of a payload that isn't worth a file


def digest_of(parts: Sequence[Part]) -> str:
    """Return the SHA-256 (hex) of a payload in parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def size_of(parts: Sequence[Part]) -> int:
    """Return how many bytes a payload in parts has."""
    return sum(memoryview(part).nbytes for part in parts)


class Departure:
    """A letter on its way out.

    Args:
        seq: its number.
        header: signed.
        parts: of its payload.
        sha256: of its payload, hex, where this process has hashed that; else empty.

    Attributes:
        over: nobody waits for it any more.
        sent: bytes of its payload that have gone out by now; what was sent again counts again.
    """

    def __init__(self, seq: int, header: Signed, parts: Sequence[Part], sha256: str = "") -> None:
        self.seq = seq
        self.header = header
        self.sha256 = sha256
        self._parts = [memoryview(part).cast("B") for part in parts]
        self.size = size_of(parts)
        self.over = False
        self.sent = 0

    def offset_in(self, partial: Sequence[Partial]) -> int:
        """Return from which byte on the other end needs it.

        Args:
            partial: what the other end has.
        """
        digest = self.header.digest
        return next((p.size for p in partial if (p.seq, p.header) == (self.seq, digest)), 0)

    def frames(self, offset: int = 0) -> Iterator[bytes]:
        """Yield the letter's frames, from a byte of its payload on.

        Raises:
            ProtocolError: when it hasn't that many bytes.
        """
        if offset > self.size:
            raise ProtocolError(f"a letter of {self.size} bytes can't go on at {offset}")
        head = Letter(header=len(self.header.text), offset=offset)
        fixed = [self.header.text, self.header.signature]
        room = LARGEST_BODY - size_of(fixed)
        pieces = self._pieces(offset, room)
        first = next(pieces, [])
        self.sent += size_of(first)
        yield encode(head, [*fixed, *first])
        offset += size_of(first)
        for piece in pieces:
            self.sent += size_of(piece)
            yield encode(Chunk(seq=self.seq, offset=offset), piece)
            offset += size_of(piece)

    def _pieces(self, offset: int, room: int) -> Iterator[list[Part]]:
        """Yield views of the payload's bytes, as many as a frame takes, without joining parts."""
        piece: list[Part] = []
        left = room
        for part in self._parts:
            if offset >= len(part):
                offset -= len(part)
                continue
            while offset < len(part):
                taken = part[offset : offset + left]
                piece.append(taken)
                offset += len(taken)
                left -= len(taken)
                if not left:
                    yield piece
                    piece, left = [], LARGEST_BODY
            offset = 0
        if piece:
            yield piece


def kept_parts(header: Signed, parts: Sequence[Part]) -> list[Part]:
    """Return a letter as it is kept on disk: its header, the signature, its payload."""
    return [header.text, header.signature, *parts]


def departure_of(seq: int, kept: Sequence[Part]) -> Departure:
    """Return a letter that was kept on disk.

    Args:
        seq: its number.
        kept: what :func:`kept_parts` gave.
    """
    text, signature, *parts = kept
    return Departure(seq, Signed(bytes(text), bytes(signature)), parts)


def reply_to(
    order: Order, digest: str, parts: Sequence[Part], sign: Callable[[bytes], bytes]
) -> Departure:
    """Return the letter that answers an order.

    Args:
        order: header of the order.
        digest: SHA-256 (hex) of that header.
        parts: of the answer's payload.
        sign: identity of the site (:meth:`fedmodel.identity.SigningKey.sign`).
    """
    header = Reply(
        run=order.run,
        epoch=order.epoch,
        start=order.start,
        seq=order.seq,
        member=order.member,
        order=digest,
        size=size_of(parts),
        sha256=digest_of(parts),
    )
    return Departure(order.seq, sign_header(header, sign), parts, header.sha256)


class Arrival(Generic[L]):
    """A letter on its way in.

    Args:
        header: that has verified.
        digest: SHA-256 (hex) of the header.
        folder: in which a large payload's file is made.
        most: bytes that its payload may have.

    Raises:
        ProtocolError: when it has more.
    """

    def __init__(self, header: L, digest: str, folder: Path, most: int) -> None:
        if header.size > most:
            raise ProtocolError(
                f"a letter of {header.size} bytes was announced, at most {most} may come"
            )
        self.header: L = header
        self.digest = digest
        self.received = 0
        self._hash = hashlib.sha256()
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        if header.size > _IN_MEMORY:
            try:
                # Without a buffer: what is written is in the file, or an error says that it isn't.
                made = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - as long as self
                self._file = made
            except OSError as error:
                raise _unwritten(folder, error) from error
        self._folder = folder

    @property
    def complete(self) -> bool:
        """Whether all of it has come."""
        return bool(self.received == self.header.size)

    def partial(self) -> Partial:
        """Return what has come of it."""
        return Partial(seq=self.header.seq, size=self.received, header=self.digest)

    def add(self, offset: int, data: memoryview) -> None:
        """Take the next bytes.

        Args:
            offset: at which the sender says that they begin.
            data: the bytes.

        Raises:
            ProtocolError: when they aren't the next ones, or are too many.
            RunFolderError: when the disk doesn't take them.
        """
        if offset != self.received:
            raise ProtocolError(f"expected a letter's bytes from {self.received} on, got {offset}")
        if self.received + len(data) > self.header.size:
            raise ProtocolError(f"a letter has more bytes than the {self.header.size} it announced")
        if self._file is None:
            self._memory += data
        else:
            try:
                self._write(self._file, data)
            except OSError as error:
                raise _unwritten(self._folder, error) from error
        self._hash.update(data)
        self.received += len(data)

    def payload(self) -> memoryview:
        """Return the whole payload, a view of memory or of its file.

        Raises:
            ProtocolError: when it isn't what its header was signed for.
            RunFolderError: when the disk hasn't taken it.
        """
        if not self.complete or self._hash.hexdigest() != self.header.sha256:
            raise ProtocolError("a letter's payload isn't the one that its header was signed for")
        if self._file is None:
            return memoryview(self._memory).toreadonly()
        try:
            # The view keeps the map, the map keeps the file: it goes with the last of them.
            mapped = mmap.mmap(self._file.fileno(), self.header.size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _unwritten(self._folder, error) from error
        self._file.close()
        return memoryview(mapped)

    def _write(self, file: BinaryIO, data: memoryview) -> None:
        # Where the bytes belong: some may be there of a write that has failed, on a full disk.
        place = self.received
        while data:
            written = os.pwrite(file.fileno(), data, place)
            place, data = place + written, data[written:]

    def close(self) -> None:
        """Forget it."""
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        # A connection, or a whole process's end, may go with letters half come.
        if getattr(self, "_file", None) is not None:
            self.close()


def _unwritten(folder: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"can't keep a letter in {folder}: {error.strerror}. Free space there; "
        "it is asked for again"
    )
