"""The file of a bundle: a zip archive of one form only, every byte of which is accounted for.

Members are stored, not compressed: what compresses gives other bytes with another version of its
library, and a bundle is to be the same wherever it is made; nor can what isn't compressed unfold.
Times, attributes and order are fixed, nothing lies between, before or behind the members. So a
reader needs to trust no field: it makes each header itself, and compares.
"""

import errno
import os
import stat
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmodel.errors import EvidenceError

__all__ = ["LARGEST", "Archive", "Entry", "Filed", "archive", "check_names", "member"]

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_VERSION, _UTF8, _STORED = 20, 1 << 11, 0
_MADE_BY = 3 << 8 | _VERSION  # Unix, whose permissions stand in the attributes
_MIDNIGHT, _1980 = 0, 1 << 5 | 1  # the first day that there is
_ATTRIBUTES = (stat.S_IFREG | 0o644) << 16
LARGEST = 0xFFFF_FFFE  # bytes of a whole bundle: beyond it a zip file needs other headers
_MOST = 20_000  # members
_LONGEST_NAME = 512  # bytes
_CHUNK = 1 << 20
_BAD = "\\:"  # mean something in a path somewhere


@dataclass(frozen=True, slots=True)
class Entry:
    """A member, as its headers tell of it.

    Args:
        name: of it, with slashes.
        size: bytes.
        crc: CRC-32 of them.
    """

    name: str
    size: int
    crc: int

    def local(self) -> bytes:
        """Return the header before its bytes."""
        name = self.name.encode()
        head = (0x04034B50, _VERSION, _UTF8, _STORED, _MIDNIGHT, _1980)
        return _LOCAL.pack(*head, self.crc, self.size, self.size, len(name), 0) + name

    def central(self, at: int) -> bytes:
        """Return its line in the directory.

        Args:
            at: where its header stands.
        """
        name = self.name.encode()
        head = (0x02014B50, _MADE_BY, _VERSION, _UTF8, _STORED, _MIDNIGHT, _1980)
        size = (self.crc, self.size, self.size, len(name))
        return _CENTRAL.pack(*head, *size, 0, 0, 0, 0, _ATTRIBUTES, at) + name


@dataclass(frozen=True, slots=True)
class Filed:
    """A member to write.

    Args:
        entry: of it.
        chunks: its bytes, whenever they are asked for.
    """

    entry: Entry
    chunks: Callable[[], Iterable[bytes]]


def member(name: str, chunks: Callable[[], Iterable[bytes]]) -> Filed:
    """Return a member, whose bytes are looked through once."""
    crc = size = 0
    for chunk in chunks():
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return Filed(Entry(name, size, crc), chunks)


def archive(members: Sequence[Filed]) -> Iterator[bytes]:
    """Yield the bytes of an archive.

    Raises:
        EvidenceError: when there would be too many of them, or a name can't be in one.
        OSError: when a member isn't any more as it was.
    """
    check_names([each.entry.name for each in members])
    whole = sum(len(m.entry.local()) + m.entry.size + len(m.entry.central(0)) for m in members)
    if whole + _END.size > LARGEST or len(members) > _MOST:
        raise EvidenceError(
            f"a bundle has at most {LARGEST} bytes in {_MOST} parts, got {whole} in "
            f"{len(members)}; leave the model out: weights=false"
        )
    directory, at = [], 0
    for each in members:
        directory.append(each.entry.central(at))
        header = each.entry.local()
        yield header
        yield from _unchanged(each)
        at += len(header) + each.entry.size
    lines = b"".join(directory)
    yield lines + _end(len(members), len(lines), at)


def _unchanged(each: Filed) -> Iterator[bytes]:
    crc = size = 0
    try:
        for chunk in each.chunks():
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
            if size > each.entry.size:
                break
            yield chunk
    except EvidenceError as error:  # whoever writes a file takes back what an OSError has stopped
        raise OSError(errno.EBUSY, str(error)) from error
    if (size, crc) != (each.entry.size, each.entry.crc):
        raise OSError(errno.EBUSY, f"{each.entry.name} was changed while it was packed; try again")


def _end(count: int, size: int, at: int) -> bytes:
    return _END.pack(0x06054B50, 0, 0, count, count, size, at, 0)


def check_names(names: Sequence[str]) -> None:
    """Check that names lead nowhere else, and stay apart on every disk: the first, then by order.

    Raises:
        EvidenceError: for one that doesn't.
    """
    found: dict[str, str] = {}
    for name in names:
        plain = name.isprintable() and not set(name) & set(_BAD)
        short = len(name.encode(errors="replace")) <= _LONGEST_NAME
        steps = name.split("/")
        odd = {"", ".", ".."} & {*steps} or any(step != step.strip() for step in steps)
        if not plain or not short or odd or unicodedata.normalize("NFC", name) != name:
            raise EvidenceError(f"{name!r:.200} can't be the name of a bundle's part")
        twin = unicodedata.normalize("NFKC", name).casefold()
        if twin in found:
            raise EvidenceError(
                f"{found[twin]!r:.200} and {name!r:.200} are one name on some disks; a bundle has "
                "one of them"
            )
        found[twin] = name
    if [*names[1:]] != sorted(names[1:], key=str.encode):
        raise EvidenceError("its parts aren't in their order")


class Archive:
    """An archive to read from. Nothing of it is held; each part is read anew.

    Args:
        path: of the file.
        largest: how many bytes a member of a name may have; ``None``: there is no such member.

    Raises:
        EvidenceError: when it can't be read, or isn't one of that one form.
    """

    def __init__(self, path: Path, largest: Callable[[str], int | None]) -> None:
        self._path = path
        handle = self._open()
        try:
            self.size = os.fstat(handle).st_size
            self._stamp = _stamp(handle)
            self._at = dict(self._read(handle, largest))
        finally:
            os.close(handle)

    @property
    def names(self) -> list[str]:
        """Of the members, in order."""
        return list(self._at)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a member's bytes.

        Raises:
            EvidenceError: when they aren't those that the archive says, or it was changed.
        """
        entry, at = self._at[name]
        handle = self._open()
        try:
            if _stamp(handle) != self._stamp:
                raise EvidenceError(f"{self._path} was changed while it was read; try again")
            left, crc = entry.size, 0
            while left:
                chunk = self._pread(handle, min(left, _CHUNK), at)
                crc, left, at = zlib.crc32(chunk, crc), left - len(chunk), at + len(chunk)
                yield chunk
        finally:
            os.close(handle)
        if crc != entry.crc:
            raise self._wrong(f"the bytes of {name!r:.200} aren't those that were packed")

    def _read(
        self, handle: int, largest: Callable[[str], int | None]
    ) -> Iterator[tuple[str, tuple[Entry, int]]]:
        if not _END.size < self.size <= LARGEST:
            raise self._wrong(f"it has {self.size} bytes")
        end = self._pread(handle, _END.size, self.size - _END.size)
        _, _, _, count, _, size, at, _ = _END.unpack(end)
        if end != _end(count, size, at) or at + size + _END.size != self.size or count > _MOST:
            raise self._wrong("it doesn't end as one")
        entries = self._entries(self._pread(handle, size, at), count)
        try:
            check_names([entry.name for entry in entries])
        except EvidenceError as error:
            raise self._wrong(str(error)) from None
        start = 0
        for entry in entries:
            limit = largest(entry.name)
            if limit is None or entry.size > limit:
                what = "is no part of a run's evidence" if limit is None else "is far too large"
                raise self._wrong(f"{entry.name!r:.200} {what}")
            header = entry.local()
            start += len(header)
            if start + entry.size > at or self._pread(handle, len(header), start - len(header)) != (
                header
            ):
                raise self._wrong(f"{entry.name!r:.200} doesn't stand where it should")
            yield entry.name, (entry, start)
            start += entry.size
        if start != at:
            raise self._wrong("something lies between its parts")

    def _entries(self, directory: bytes, count: int) -> list[Entry]:
        entries: list[Entry] = []
        pos = start = 0
        for _ in range(count):
            if pos + _CENTRAL.size > len(directory):
                raise self._wrong("its directory is cut")
            fields = _CENTRAL.unpack_from(directory, pos)
            crc, size, length = fields[7], fields[8], fields[10]
            text = directory[pos + _CENTRAL.size : pos + _CENTRAL.size + length]
            try:
                entry = Entry(text.decode(), size, crc)
            except UnicodeDecodeError:
                raise self._wrong("a name in it isn't text") from None
            line = entry.central(start)
            if directory[pos : pos + len(line)] != line:
                raise self._wrong(f"{entry.name!r:.200} isn't stored as a bundle's parts are")
            pos += len(line)
            start += len(entry.local()) + size
            if start > self.size:
                raise self._wrong(f"{entry.name!r:.200} is larger than the file")
            entries.append(entry)
        if pos != len(directory):
            raise self._wrong("its directory has more than its parts")
        return entries

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            handle = os.open(self._path, flags)
        except OSError as error:
            raise EvidenceError(f"{self._path} can't be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise EvidenceError(
                f"{self._path} isn't a plain file; expected a bundle. A run's folder is given by "
                "run="
            )
        return handle

    def _pread(self, handle: int, size: int, at: int) -> bytes:
        parts = []
        try:
            while size > 0:
                part = os.pread(handle, size, at)
                if not part:
                    raise self._wrong("it is cut")
                parts.append(part)
                size, at = size - len(part), at + len(part)
        except OSError as error:
            raise EvidenceError(f"{self._path} can't be read: {error.strerror}") from error
        return b"".join(parts)

    def _wrong(self, why: str) -> EvidenceError:
        return EvidenceError(
            f"{self._path} isn't a bundle as fedmodel packs it: {why}. It is damaged, or was "
            "packed by another program: ask for it again, as it was made"
        )


def _stamp(handle: int) -> tuple[int, ...]:
    found = os.fstat(handle)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
