"""Frames of the network: one message of gRPC each, checked for their sizes before aught is read.

::

    "F" 1 | kind, 1 byte | length of the head, 4 bytes, big-endian | head | body

The head is canonical JSON (RFC 8785) of the kind's own class, the body is bytes.
"""

import struct
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, TypeVar

from fedmodel import config
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.runs import check_run

__all__ = [
    "LARGEST_BODY",
    "LARGEST_FRAME",
    "LARGEST_HEAD",
    "Ack",
    "Bye",
    "Challenge",
    "Chunk",
    "Frame",
    "Head",
    "HelloFrame",
    "Letter",
    "Partial",
    "WelcomeFrame",
    "decode",
    "encode",
    "from_text",
]

LARGEST_HEAD = 1 << 14  # bytes
LARGEST_BODY = 4 << 20  # bytes: pieces that large cost least time of the processor, as measured
_PREFIX = struct.Struct(">2sBI")
_MAGIC = b"F\x01"
LARGEST_FRAME = _PREFIX.size + LARGEST_HEAD + LARGEST_BODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a coordinator's end says first.

    Args:
        nonce: 256 random bits, hex, of this connection.
        run: that it is about; nobody has signed for that yet.
        epoch: likewise.
        start: of the coordinator, likewise.
    """

    kind: ClassVar[int] = 1
    nonce: str
    run: str
    epoch: int
    start: str

    def __post_init__(self) -> None:
        config.require_hex("nonce", self.nonce, 64)
        config.require_hex("start", self.start, 32)
        check_run(self.run)
        _require_size("epoch", self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloFrame:
    """Who a site is; the body is the text that it signs, and the signature."""

    kind: ClassVar[int] = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WelcomeFrame:
    """Who the coordinator is; the body is the text that it signs, and the signature."""

    kind: ClassVar[int] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A letter begins: its signed header is the body's first part, its first bytes the rest.

    Args:
        header: length of the header, bytes; the signature, 64 bytes, follows it.
        offset: of the letter's payload at which the bytes in this frame begin.
    """

    kind: ClassVar[int] = 4
    header: int
    offset: int = 0

    def __post_init__(self) -> None:
        _require_size("header", self.header)
        _require_size("offset", self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """More of a letter's payload: the body.

    Args:
        seq: of the letter.
        offset: at which it begins.
    """

    kind: ClassVar[int] = 5
    seq: int
    offset: int

    def __post_init__(self) -> None:
        _require_size("seq", self.seq)
        _require_size("offset", self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """A letter has come whole; whoever sent it may forget it.

    Args:
        seq: of the letter.
    """

    kind: ClassVar[int] = 6
    seq: int

    def __post_init__(self) -> None:
        _require_size("seq", self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """The orderly end of a connection: a lost one looks like an end otherwise.

    Args:
        code: for programs; one of those in :mod:`fedmodel.transport.goodbyes`.
        reason: for people, at most 500 characters.
    """

    kind: ClassVar[int] = 7
    code: str
    reason: str = ""

    def __post_init__(self) -> None:
        if len(self.code) > 40 or len(self.reason) > 500:
            raise ConfigError("expected a code of 40 characters and a reason of 500 at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """What an end has of a letter whose connection was cut.

    Args:
        seq: of the letter.
        size: bytes that it has, from the first.
        header: SHA-256 (hex) of the letter's header: of no other one they are the beginning.
    """

    seq: int
    size: int
    header: str

    def __post_init__(self) -> None:
        _require_size("seq", self.seq)
        _require_size("size", self.size)
        config.require_hex("header", self.header, 64)


Head: TypeAlias = Challenge | HelloFrame | WelcomeFrame | Letter | Chunk | Ack | Bye
_KINDS: dict[int, type[Head]] = {
    each.kind: each for each in (Challenge, HelloFrame, WelcomeFrame, Letter, Chunk, Ack, Bye)
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that came.

    Args:
        head: what it is.
        body: its bytes, a view.
    """

    head: Head
    body: memoryview


def encode(head: Head, body: Sequence[bytes | memoryview] = ()) -> bytes:
    """Return a frame.

    Args:
        head: what it is.
        body: its bytes, in parts.
    """
    text = config.canonical(head)
    return b"".join((_PREFIX.pack(_MAGIC, head.kind, len(text)), text, *body))


def decode(data: bytes, allowed: Container[type[Head]]) -> Frame:
    """Return the frame in some bytes from outside; its body is a view of them.

    Args:
        data: as they came.
        allowed: kinds that may come now.

    Raises:
        ProtocolError: for anything else.
    """
    if not _PREFIX.size <= len(data) <= LARGEST_FRAME:
        raise ProtocolError(
            f"expected a frame of {_PREFIX.size} to {LARGEST_FRAME} bytes, got {len(data)}"
        )
    magic, kind, size = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise ProtocolError("expected a frame of version 1; install the same fedmodel everywhere")
    known = _KINDS.get(kind)
    if known is None or known not in allowed:
        named = f"kind {kind}" if known is None else known.__name__
        raise ProtocolError(f"a frame of {named} came where none may")
    if size > min(LARGEST_HEAD, len(data) - _PREFIX.size):
        raise ProtocolError(f"a frame's head has {size} bytes by its own word, and can't")
    start = _PREFIX.size + size
    body = memoryview(data)[start:]
    if len(body) > LARGEST_BODY:
        raise ProtocolError(f"a frame's body may have {LARGEST_BODY} bytes, got {len(body)}")
    return Frame(from_text(known, data[_PREFIX.size : start]), body)


def from_text(kind: type[T], text: bytes) -> T:
    """Return what a text from the other end says: of a head, a greeting, or a letter's header.

    Args:
        kind: class that is expected.
        text: as it came.

    Raises:
        ProtocolError: when it isn't canonical JSON of that kind.
    """
    try:
        return config.parse(lambda found: config.build(kind, found), text)
    except (ConfigError, RecursionError, OverflowError) as error:
        raise ProtocolError(f"malformed {kind.__name__}: {error}") from error


def _require_size(name: str, value: int) -> None:
    if not 0 <= value < 1 << 53:
        raise ConfigError(f"{name} must be from 0 to 2^53, got {value:.0e}")
