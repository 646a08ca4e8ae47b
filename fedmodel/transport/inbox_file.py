"""File of a run's inbox: grows by a record at a time, one sync each, and is written anew at times.

Of a kill, or a power cut, there is a last record that ends early at worst. It is left out, and
nothing is lost by that: an order isn't acted on, and a reply isn't told, before the sync of its
record has returned. Whatever else isn't as it was written is refused.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.transport import records
from fedmodel.transport.inbox_state import State

__all__ = ["InboxFile"]

_NAME = "inbox.bin"
_LARGEST = 1 << 26  # bytes of a file; it is written anew long before
_RESTORE = (
    "By an older copy of it an order could be acted on twice: if it can't be repaired, let this "
    "run go on without this site, or begin another run"
)


class InboxFile:
    """One run's file, and what was read of it; it is read again where others have written to it.

    Several threads may use it. Who writes keeps other processes out meanwhile
    (:meth:`~fedmodel.transport.inbox_store.InboxStore.locked`).

    Args:
        folder: of the file.
        run: whose it is.
        bound: bytes from which on it is written anew, without what is over.
    """

    def __init__(self, folder: Path, run: str, bound: int) -> None:
        self.path = folder / _NAME
        self._run = run
        self._bound = self._most = bound
        self._turn = threading.RLock()
        self._forget()
        self._worn = False  # its end isn't known to be whole and on disk: nothing is added to it

    def _forget(self) -> None:
        self._state = State()
        self._stamp: tuple[int, ...] | None = None  # None: to be read; empty: there is no file
        self._last, self._size = records.FIRST, 0

    def state(self) -> State:
        """Return what is in the file now, which is on disk.

        Raises:
            RunFolderError: when it can't be read, was changed, or is missing beside replies.
        """
        with self._turn:
            if self._stamp is None or self._stamp != self._found():
                self._forget()
                self._load()
            return self._state

    def put(self, record: bytes, *, durable: bool = True) -> None:
        """Add a record.

        Args:
            record: the next one.
            durable: return only once it is on disk. Otherwise it may be lost, without a word.

        Raises:
            RunFolderError: as :meth:`state`.
            OSError: when it can't be written; then it may be there or not.
        """
        with self._turn:
            state = self.state().after(self._run, record)
            if not durable and (self._worn or not self._stamp):
                return
            if self._worn or not self._stamp or (durable and self._size >= self._most):
                self._write_anew(state)
            else:
                self._add(record, durable)
            self._state = state

    def _add(self, record: bytes, durable: bool) -> None:
        made = records.frame(record, self._last)
        self._stamp, self._worn = None, True  # until all went well
        with _files.locked(self.path, write=True) as file:
            file.append(made, durable=durable)
            self._stamp = file.stamp()
        self._last, self._size, self._worn = made[-32:], self._size + len(made), False

    def _write_anew(self, state: State) -> None:
        made, last = bytearray(), records.FIRST
        for record in state.records(self._run):
            made += records.frame(record, last)
            last = bytes(made[-32:])
        self._stamp, self._worn = None, True
        _files.write_whole(self.path, [bytes(made)], durable=True)
        self._stamp = self._found()
        self._last, self._size, self._worn = last, len(made), False
        self._most = max(self._bound, 2 * self._size)

    def _found(self) -> tuple[int, ...]:
        with self._read():
            return _files.stamp_of(self.path)

    def _load(self) -> None:
        with self._read():
            try:
                with _files.locked(self.path, write=False) as file:
                    stamp = file.stamp()
                    if not 0 < stamp[2] <= _LARGEST:
                        raise ConfigError(f"it has {stamp[2]} bytes")
                    text = file.read()
                    # Whoever wrote it may have been ended before he came to that.
                    file.sync()
                _files.sync_folder(self.path.parent)
            except FileNotFoundError:
                if any(self.path.parent.glob("reply-*.bin")):
                    raise RunFolderError(
                        f"{self.path} is missing beside replies. {_RESTORE}"
                    ) from None
                self._stamp = ()
                return
            found = records.read(text)
            if not found.records:
                raise ConfigError("it ends within its first record")
            state = State()
            for record in found.records:
                state = state.after(self._run, record)
        self._state, self._last, self._size = state, found.last, found.size
        self._worn = self._worn or found.size < len(text)
        self._stamp = stamp

    @contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFolderError(f"can't read {self.path}: {error.strerror}. {_RESTORE}") from error
        except ConfigError as error:
            raise RunFolderError(f"{self.path} can't be read ({error}). {_RESTORE}") from error
