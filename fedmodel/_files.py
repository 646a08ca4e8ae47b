"""Files that must survive a crash. Every system call on them is made here, and nowhere else.

So whoever wants to know what a kill between any two of them leaves behind can put himself there
(``tests/fedmodel/identity/killed.py`` does).
"""

import errno
import fcntl
import glob
import mmap
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "LockedFile",
    "locked",
    "make_folder",
    "mapped",
    "move",
    "read",
    "read_with_mode",
    "remove_folder",
    "room",
    "staged",
    "stamp_of",
    "sync_folder",
    "write_atomic",
    "write_whole",
]

_CHUNK = 1 << 20


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: fsync of a file alone doesn't."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, durably.

    Its own name is synced also where it exists: whoever made it may have been killed before that.
    """
    try:
        os.mkdir(folder)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise
    except FileNotFoundError:
        make_folder(folder.parent)
        make_folder(folder)
        return
    sync_folder(folder.parent)


@contextmanager
def staged(folder: Path, mode: int = 0o700) -> Iterator[Path]:
    """Make a folder with all that belongs into it, or leave nothing, whatever happens in between.

    Args:
        folder: to make; it mustn't exist, or be empty. Its parent exists.
        mode: its permissions, before the umask.

    Yields:
        Where to write what belongs into it: a folder beside it, of another name.

    Raises:
        OSError: when it can't be made, or isn't empty.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        if _of_the_dead(left.name.split(".")[-2]):
            shutil.rmtree(left, ignore_errors=True)
    os.mkdir(temporary, mode)
    try:
        yield temporary
        sync_folder(temporary)
        os.rename(temporary, folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _of_the_dead(number: str) -> bool:
    """Return whether a process's number is nobody's any more, or our own."""
    if not number.isdecimal() or int(number) == os.getpid():
        return number.isdecimal()
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


def move(source: Path, target: Path) -> None:
    """Give a file the name of another, in whose place it then is, durably.

    Args:
        source: its name; the file is on disk.
        target: its new name, on the same file system.
    """
    os.replace(source, target)
    sync_folder(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove an empty folder, where it is there, durably."""
    with suppress(FileNotFoundError):
        os.rmdir(folder)
        sync_folder(folder.parent)


def read(path: Path, most: int | None = None) -> bytes:
    """Return a file's content.

    Args:
        path: of the file.
        most: bytes that are expected at most: of a longer file little more is read than that.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read(handle, most)
    finally:
        os.close(handle)


def read_with_mode(path: Path, most: int) -> tuple[bytes, int]:
    """Return a file's content and its permissions, of the same file whatever is renamed meanwhile.

    Args:
        path: of the file.
        most: bytes that are expected at most: of a longer file little more is read than that.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read(handle, most), os.fstat(handle).st_mode & 0o777
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o666, durable: bool = True) -> None:
    """Replace a file by ``data``, or leave it as it was, whatever happens in between.

    Args:
        path: of the file; its folder exists.
        data: the new content.
        mode: permissions, before the umask.
        durable: return only once the new content survives a power cut. Otherwise a power cut may
            bring back the old content, but never a mixture.

    Raises:
        OSError: then the file is as it was, or (where only the last sync failed) new.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # of a killed process with our number; its mode may be another
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = os.open(temporary, flags, mode)
        try:
            _write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def mapped(path: Path) -> memoryview:
    """Return a file's content without reading it: pages are read as they are looked at.

    Nobody may cut the file while somebody looks; that it is removed or replaced does no harm.

    Args:
        path: of the file, which isn't empty.

    Raises:
        OSError: when it can't be read, or is empty.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not os.fstat(handle).st_size:
            raise OSError(errno.EIO, "it is empty")
        return memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(handle)


def write_whole(
    path: Path,
    parts: Iterable[bytes | memoryview],
    *,
    mode: int = 0o600,
    durable: bool = False,
) -> None:
    """Replace a file, or leave it as it was, whenever the process is killed.

    Args:
        path: of the file; its folder exists.
        parts: of the new content.
        mode: permissions, before the umask.
        durable: return only once the new content survives a power cut. Otherwise nothing is
            synced, and a power cut may leave a part of it: that is for what may be lost, and is
            checked when it is read.

    Raises:
        OSError: then the file is as it was, or (where only the last sync failed) new.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            for part in parts:
                _write(handle, part)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise


class Room:
    """The room for a file's new content. Get one from :func:`room`."""

    def __init__(self, handle: int, temporary: Path, path: Path) -> None:
        self._handle = handle
        self._temporary = temporary
        self._path = path

    def fill(self, parts: Iterable[bytes | memoryview]) -> None:
        """Put the content in, and let it be the file's, durably.

        Raises:
            OSError: then the file is as it was, or (where only the last sync failed) new.
        """
        for part in parts:
            _write(self._handle, part)
        os.ftruncate(self._handle, os.lseek(self._handle, 0, os.SEEK_CUR))
        os.fsync(self._handle)
        os.replace(self._temporary, self._path)
        sync_folder(self._path.parent)


@contextmanager
def room(path: Path, size: int, *, mode: int = 0o600) -> Iterator[Room]:
    """Take the room for a file's new content before there is any: a full disk is known of then.

    Where a file system can't be asked for room, it isn't. The file stays as it was unless the room
    is filled.

    Args:
        path: of the file; its folder exists.
        size: bytes at most.
        mode: permissions, before the umask.

    Raises:
        OSError: when there is no such room.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if _of_the_dead(left.name.split(".")[-2]):
            with suppress(FileNotFoundError):
                os.unlink(left)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        _allocate(handle, size)
        yield Room(handle, temporary, path)
    finally:
        os.close(handle)
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _allocate(handle: int, size: int) -> None:
    """Take room for a file, where its file system lets itself be asked."""
    try:
        os.posix_fallocate(handle, 0, size)
    except AttributeError:  # not on this platform
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


class LockedFile:
    """An open file that this process has locked. Get one from :func:`locked`."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def stamp(self) -> tuple[int, ...]:
        """Return what differs after the file was changed or exchanged; its size is the third."""
        return _stamp(os.fstat(self._handle))

    def read(self) -> bytes:
        """Return the whole content."""
        os.lseek(self._handle, 0, os.SEEK_SET)
        return _read(self._handle)

    def tail(self, size: int) -> bytes:
        """Return the last ``size`` bytes, or all of fewer."""
        whole = os.fstat(self._handle).st_size
        os.lseek(self._handle, max(0, whole - size), os.SEEK_SET)
        return _read(self._handle)

    def append(self, data: bytes, *, durable: bool = True) -> None:
        """Add to the end; ``durable``: return only once that is on disk.

        A disk that is nearly full takes a part, and says only of the next write that it is full.

        Raises:
            OSError: then nothing, a part or all of it may be there.
        """
        _write(self._handle, data)
        if durable:
            self.sync()

    def sync(self) -> None:
        """Return once all that is in the file is on disk."""
        os.fsync(self._handle)

    def cut(self, size: int) -> None:
        """Drop everything after ``size`` bytes."""
        os.ftruncate(self._handle, size)

    def cut_end(self, size: int) -> None:
        """Drop the last ``size`` bytes."""
        self.cut(os.fstat(self._handle).st_size - size)


def stamp_of(path: Path) -> tuple[int, ...]:
    """Return :meth:`LockedFile.stamp` of a file as it is now; empty where there is none."""
    try:
        return _stamp(os.stat(path))
    except FileNotFoundError:
        return ()


def _stamp(s: os.stat_result) -> tuple[int, ...]:
    return (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


@contextmanager
def locked(path: Path, *, write: bool, mode: int = 0o600) -> Iterator[LockedFile]:
    """Open and lock a file: for reading together with other readers, or for writing alone.

    The lock is ``flock``'s: it ends with the process, however that ends.

    Args:
        path: of the file; for writing it is made where it is missing, its folder exists.
        write: whether to write.
        mode: permissions of a new file.
    """
    access = os.O_RDWR | os.O_CREAT | os.O_APPEND if write else os.O_RDONLY
    handle = os.open(path, access | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
        yield LockedFile(handle)
    finally:
        os.close(handle)


def _read(handle: int, most: int | None = None) -> bytes:
    parts, found = [], 0
    while (most is None or found <= most) and (part := os.read(handle, _CHUNK)):
        parts.append(part)
        found += len(part)
    return b"".join(parts)


def _write(handle: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(handle, view) :]
