"""Contents of messages ↔ bytes, without copies of their arrays.

A payload is a line that names the version, the length of the header in 4 bytes (big-endian), the
header, which is canonical JSON (RFC 8785), and the body: the arrays' bytes, and long texts, one
after the other in the header's order. The body and each of its parts begin at a multiple of 64
bytes, with zeros before. Nothing is read but what :func:`packed` makes of a content.
"""

from flwr.app import Error, RecordDict

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.wire.layout import ALIGNED, Reader, Writer, malformed

__all__ = ["LONGEST_HEADER", "packed", "unpacked"]

LONGEST_HEADER = 1 << 20
"""Bytes of a payload's header at most."""

_VERSION = b"fedmodel.content/1\n"
_LENGTH = 4  # bytes


def packed(content: RecordDict | Error) -> list[bytes | memoryview]:
    """Return a payload in parts: joined they are its bytes. Arrays' bytes are among them uncopied.

    Args:
        content: of a message, or the error that stands for it.

    Raises:
        ProtocolError: when it is beyond what :func:`unpacked` reads.
    """
    writer = Writer()
    try:
        header = config.canonical(writer.content(content))
    except (ConfigError, UnicodeEncodeError) as error:
        raise malformed(str(error)) from error
    if len(header) > LONGEST_HEADER:
        raise malformed(f"a header of {len(header)} bytes, at most {LONGEST_HEADER} are read")
    start = b"".join((_VERSION, len(header).to_bytes(_LENGTH, "big"), header))
    return [start + bytes(-len(start) % ALIGNED), *writer.parts]


def unpacked(payload: bytes | memoryview) -> RecordDict | Error:
    """Return the content in a payload. Its arrays' bytes are views of the payload, read-only.

    Args:
        payload: from outside; it may be that of a file that is mapped into memory, which must
            stay as it is while the content lives.

    Raises:
        ProtocolError: unless it is, to the byte, what :func:`packed` makes of a content.
    """
    whole = memoryview(payload).toreadonly()
    if whole.format != "B" or whole.ndim != 1 or not whole.c_contiguous:
        raise malformed("a payload that isn't plain bytes")
    header, body = _header(whole)
    try:
        content = Reader(body).content(config.parsed(header))
    except ConfigError as error:
        raise malformed(f"its header isn't JSON: {error}") from error
    at = 0
    for part in packed(content):
        # What isn't bytes is the payload's own: an array, and where it lies the header has said.
        if isinstance(part, bytes) and bytes(whole[at : at + len(part)]) != part:
            raise malformed("it isn't in the one form that a content has")
        at += len(part)
    if at != len(whole):
        raise malformed(f"{len(whole) - at} bytes after its end")
    return content


def _header(whole: memoryview) -> tuple[bytes, memoryview]:
    """Return a payload's header, and its body."""
    start = len(_VERSION) + _LENGTH
    if whole[: len(_VERSION)] != _VERSION:
        got = bytes(whole[: len(_VERSION)]).partition(b"\n")[0]
        raise malformed(f"expected {_VERSION[:-1].decode()!r}, got {got!r}")
    size = int.from_bytes(whole[len(_VERSION) : start], "big")
    if size > LONGEST_HEADER:
        raise malformed(f"a header of {size} bytes, at most {LONGEST_HEADER} are read")
    stop = start + size
    if stop > len(whole):
        raise malformed(f"{len(whole)} bytes, which end in the header")
    return bytes(whole[start:stop]), whole[stop + -stop % ALIGNED :]
