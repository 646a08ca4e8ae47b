"""Kept update of a run at a site: what a round's noise was spent on, so that it is spent once.

An order can come again: a reply was lost, the coordinator or this site was started anew. The round
and the parameters being the same, so is the update that leaves, from the site's disk. What was
noised may be given as often as anybody asks: it tells nothing new (post-processing), and nothing is
spent. An update whose noise is shared isn't kept: by itself it isn't noised enough.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedmodel import _files, wire
from fedmodel.errors import ProtocolError, RunFolderError
from fedmodel.update import Update

__all__ = ["KeptUpdate"]

logger = logging.getLogger(__name__)

_SCHEMA = "fedmodel.kept-update/1"
_HEAD = 300  # bytes of the first line at most
_PAID = (
    "What this round was spent on hasn't left the site; free space before its process ends, and it "
    "will be given when it is asked for again"
)


class KeptUpdate:
    """The last noised update of a run, in its folder at a site.

    Args:
        folder: of the run.
        job: SHA-256 (hex) of the job.
        size: parameters of an update.
    """

    def __init__(self, folder: Path, job: str, size: int) -> None:
        self._path = folder / f"update-{job[:32]}.bin"
        self._job = job
        self._size = size
        # Paid for, and not on disk yet: it couldn't be written.
        self._unwritten: tuple[bytes, bytes] | None = None

    def find(self, round_: int, model: str) -> Update | None:
        """Return the update that a round has; ``None`` where it has none, or it is gone.

        Args:
            round_: of the run.
            model: SHA-256 (hex) of the parameters that it started from.

        Raises:
            RunFolderError: when there is one that couldn't be written before, and still can't be.
        """
        first = self._first(round_, model)
        if self._unwritten is not None and self._unwritten[0] == first:
            self._write(first, self._unwritten[1])
            self._unwritten = None
        try:
            if not _files.read(self._path, _HEAD).startswith(first):
                return None
            return self._read(_files.read(self._path), first)
        except OSError:
            return None

    @contextmanager
    def room(self, round_: int, model: str) -> Iterator[Callable[[Update], None]]:
        """Take the room that a round's update will need, before anything is spent on it.

        Args:
            round_: of the run.
            model: SHA-256 (hex) of the parameters that it starts from.

        Yields:
            What keeps the update, durably, before it leaves. It takes the place of the last one.

        Raises:
            RunFolderError: when the disk hasn't so much room: nothing is spent. Or when what was
                paid for can't be written: then it must not leave, and is kept in memory.
        """
        first = self._first(round_, model)
        with ExitStack() as stack:
            try:
                _files.make_folder(self._path.parent)
                needed = _HEAD + wire.update_size(self._size)
                room = stack.enter_context(_files.room(self._path, needed))
            except OSError as error:
                raise self._error(error, "Nothing was spent on this round; free space") from error

            def keep(update: Update) -> None:
                data = wire.update_to_bytes(update)
                self._unwritten = (first, data)
                try:
                    room.fill([self._head(first, data), data])
                except OSError as error:
                    raise self._error(error, _PAID) from error
                self._unwritten = None

            yield keep

    def _write(self, first: bytes, data: bytes) -> None:
        try:
            _files.write_atomic(self._path, self._head(first, data) + data, mode=0o600)
        except OSError as error:
            raise self._error(error, _PAID) from error

    def _error(self, error: OSError, what: str) -> RunFolderError:
        return RunFolderError(f"can't write {self._path}: {error.strerror}. {what}")

    def _first(self, round_: int, model: str) -> bytes:
        return f"{_SCHEMA} {self._job} {round_} {model} ".encode()

    @staticmethod
    def _head(first: bytes, data: bytes) -> bytes:
        return first + hashlib.sha256(data).hexdigest().encode() + b"\n"

    def _read(self, whole: bytes, first: bytes) -> Update | None:
        head, _, data = whole.partition(b"\n")
        if head + b"\n" != self._head(first, data):
            logger.warning("%s is damaged, so the round is spent on again", self._path)
            return None
        try:
            return wire.checked_update(*wire.update_from_bytes(data), self._size)
        except ProtocolError as error:
            logger.warning(
                "%s can't be used, so the round is spent on again: %s", self._path, error
            )
            return None
