"""Records in a file that only grows: each in a frame that shows whether all of it is there.

::

    length, 4 bytes | check, 4 bytes | the record | SHA-256, 32 bytes

Length, check and record are hashed together with the SHA-256 of the frame before, and the check is
the first bytes of such a hash of the length alone. So a record that was changed, moved, left out or
put in is noticed, and a frame that ends early can be told from one whose length was changed.

A power cut can also leave zeros in the place of a file's last bytes: file systems may keep how long
a file is and not what is in it, a block or sector at a time. Those zeros are as good as not there.
"""

import hashlib
from dataclasses import dataclass

from fedmodel.errors import ConfigError

__all__ = ["FIRST", "LARGEST", "Records", "frame", "read"]

FIRST = bytes(32)  # what is hashed with the first frame, before which there is none
LARGEST = 1 << 24  # bytes of a record

_LENGTH, _CHECK, _HASH = 4, 4, 32
_HEAD = _LENGTH + _CHECK
_SECTOR = 512  # bytes that are on disk whole or not at all; blocks are multiples of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What was found in a file.

    Args:
        records: all that are whole, in their order.
        last: SHA-256 of the last of them, for the next frame.
        size: bytes of their frames.
    """

    records: tuple[bytes, ...]
    last: bytes
    size: int


def frame(record: bytes, before: bytes) -> bytes:
    """Return a record as it is in the file. Its last 32 bytes are what the next one needs.

    Args:
        record: of :data:`LARGEST` bytes at most.
        before: last 32 bytes of the frame before; :data:`FIRST` where there is none.

    Raises:
        ConfigError: for a larger record.
    """
    if len(record) > LARGEST:
        raise ConfigError(f"a record has at most {LARGEST} bytes, got {len(record)}")
    length = len(record).to_bytes(_LENGTH, "big")
    head = length + _check(before, length)
    return head + record + _hash(before, head, record)


def read(text: bytes) -> Records:
    """Return the records in a file.

    A last frame that ends early, or in zeros that a power cut has left, is no record: whoever wrote
    it was ended amid that, and had told nobody of it yet.

    Args:
        text: all that is in the file.

    Raises:
        ConfigError: where anything was changed.
    """
    records: list[bytes] = []
    last, at = FIRST, 0
    while len(text) - at >= _HEAD:
        head = text[at : at + _HEAD]
        length = int.from_bytes(head[:_LENGTH], "big")
        if head[_LENGTH:] != _check(last, head[:_LENGTH]) or length > LARGEST:
            if _written(text, at) < at + _HEAD:
                break
            raise _damaged(len(records), at)
        end = at + _HEAD + length + _HASH
        if end > len(text):
            break
        record = text[at + _HEAD : end - _HASH]
        if text[end - _HASH : end] != _hash(last, head, record):
            if _written(text, at) < end:
                break
            raise _damaged(len(records), at)
        records.append(record)
        last, at = text[end - _HASH : end], end
    return Records(records=tuple(records), last=last, size=at)


def _written(text: bytes, at: int) -> int:
    """Return where a file ends that has a frame at ``at``, but for zeros of a power cut.

    These begin where the frame does, or else at a sector's beginning: a frame that ends in a zero
    is no cut one.
    """
    end = at + len(text[at:].rstrip(b"\0"))
    sector = -(-end // _SECTOR) * _SECTOR
    return at if end == at else min(sector, len(text))


def _check(before: bytes, length: bytes) -> bytes:
    return hashlib.sha256(before + length).digest()[:_CHECK]


def _hash(before: bytes, head: bytes, record: bytes) -> bytes:
    return hashlib.sha256(before + head + record).digest()


def _damaged(number: int, at: int) -> ConfigError:
    return ConfigError(f"its record {number + 1}, at byte {at}, was changed")
