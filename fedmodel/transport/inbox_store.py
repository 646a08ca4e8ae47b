"""Files of a site's inbox: which orders were accepted, and replies to them.

::

    <run's folder>/link/inbox.bin                 the coordinator obeyed, orders, and small replies
    <run's folder>/link/reply-<epoch>-<seq>.bin   a large reply, but for its first parts

What is in the first: :mod:`fedmodel.transport.inbox_state`. A small reply costs one sync there, and
so does an order; a file of its own, whose name is synced too, costs two more.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.transport.inbox import Noted, Part
from fedmodel.transport.inbox_file import InboxFile
from fedmodel.transport.inbox_state import Kept, note_record, over_record, reply_record
from fedmodel.transport.payloads import digest_of
from fedmodel.transport.stamps import Stamp

__all__ = ["InboxStore"]

_SMALL = 1 << 16  # bytes of a reply that has no file of its own
_BOUND = 1 << 20  # bytes of a run's file from which on it is written anew
_MOST_PARTS = 1 << 16  # of a reply


class InboxStore:
    """The files of all runs' inboxes at a site.

    Args:
        run_folder: returns the folder of what is kept of a run, such as ``SiteState.run_folder``.
        small: bytes of a reply that has no file of its own.
        bound: bytes of a run's file from which on it is written anew, without what is over.
    """

    def __init__(
        self, run_folder: Callable[[str], Path], small: int = _SMALL, bound: int = _BOUND
    ) -> None:
        self._run_folder = run_folder
        self._small = small
        self._bound = bound
        self._turn = threading.Lock()
        self._runs: dict[str, InboxFile] = {}
        self._settled: set[str] = set()  # runs in whose folder nothing is left of a kill
        self._whole: set[Stamp] = set()  # replies whose file this process has written, or read

    @contextmanager
    def locked(self, run: str) -> Iterator[None]:
        """Keep other threads and processes out of a run's inbox.

        Args:
            run: its name.

        Raises:
            RunFolderError: when it can't be written to.
        """
        folder = self._file(run).path.parent
        with ExitStack() as lock:
            with _written(folder):
                if run not in self._settled or not folder.is_dir():
                    _files.make_folder(folder)
                lock.enter_context(_files.locked(folder / ".lock", write=True))
            yield

    def read(self, run: str) -> Noted:
        """Return what was noted last, or an empty note.

        Args:
            run: its name.

        Raises:
            RunFolderError: when it can't be read, was changed, or is missing beside replies.
        """
        return self._file(run).state().noted

    def note(self, run: str, noted: Noted) -> None:
        """Replace what is noted; return once it is on disk. Replies to all but its open orders go.

        Args:
            run: its name; it is locked.
            noted: the new content.

        Raises:
            RunFolderError: when it can't be read or written.
        """
        file = self._file(run)
        before = file.state().replies
        with _written(file.path, "Nothing was done for the order that came. "):
            file.put(note_record(run, noted))
        open_ = frozenset(noted.stamps(run))
        for stamp in [stamp for stamp in before if stamp not in open_]:
            self._let_go(stamp, before[stamp])
        if run not in self._settled:
            self._sweep(file.path.parent, {self._path(stamp).name for stamp in open_})
            self._settled.add(run)

    def keep(self, stamp: Stamp, parts: Sequence[Part], first: int = 0, sha256: str = "") -> None:
        """Keep the reply to an order; return once it is on disk.

        Args:
            stamp: of the order; where that isn't open any more, nothing is kept.
            parts: of the reply.
            first: how many parts, small ones, aren't hashed.
            sha256: of all others, hex; empty: it isn't known.

        Raises:
            RunFolderError: when it can't be written.
        """
        if len(parts) > _MOST_PARTS:
            raise RunFolderError(f"a reply of {len(parts)} parts has too many; join some of them")
        views = [memoryview(part).cast("B") if len(part) else memoryview(b"") for part in parts]
        sizes = tuple(view.nbytes for view in views)
        path = self._path(stamp)
        with _written(path, "This reply hasn't left the site. "):
            if sum(sizes) > self._small:
                sha256 = sha256 or digest_of(views[first:])
                _files.write_whole(path, views[first:], durable=True)
                kept = Kept(sizes=sizes, data=b"".join(views[:first]), sha256=sha256)
                self._whole.add(stamp)
            else:
                kept = Kept(sizes=sizes, data=b"".join(views))
            self._put(stamp, kept)

    def _put(self, stamp: Stamp, kept: Kept) -> None:
        file = self._file(stamp.run)
        with self.locked(stamp.run):
            if stamp not in file.state().noted.stamps(stamp.run):
                self._let_go(stamp, kept)
                return
            try:
                file.put(reply_record(stamp, kept))
            except OSError:
                with suppress(RunFolderError):
                    self._let_go(stamp, kept)  # its room is needed
                raise

    def has(self, stamp: Stamp) -> bool:
        """Return whether there is a reply to an order, whole.

        Args:
            stamp: of the order.

        Raises:
            RunFolderError: when there is one that can't be read, or isn't whole.
        """
        kept = self._kept(stamp)
        if kept is None or (kept.sha256 and not self._path(stamp).exists()):
            return False
        if kept.sha256 and stamp not in self._whole:
            self.reply(stamp)
        return True

    def reply(self, stamp: Stamp) -> tuple[memoryview, ...]:
        """Return the parts of a reply: of a large one, views into its file, which isn't read yet.

        Args:
            stamp: of the order.

        Raises:
            RunFolderError: when it can't be read, or isn't whole.
        """
        kept = self._kept(stamp)
        if kept is None:
            raise RunFolderError(f"there is no reply to order {stamp.seq} of epoch {stamp.epoch}")
        left, parts = memoryview(kept.data), []
        for size in kept.sizes:
            if size and not left:
                left = self._mapped(stamp, kept)
            parts.append(left[:size])
            left = left[size:]
        return tuple(parts)

    def drop(self, stamp: Stamp) -> None:
        """Let go of the reply to an order, where there is one.

        That may be forgotten by a power cut, or on a full disk: then the reply is there again.

        Args:
            stamp: of the order; its run is locked.

        Raises:
            RunFolderError: when its file can't be removed.
        """
        kept = self._kept(stamp)
        if kept is None:
            return
        with suppress(OSError):
            self._file(stamp.run).put(over_record(stamp), durable=False)
        self._let_go(stamp, kept)

    def _file(self, run: str) -> InboxFile:
        with self._turn:
            if run not in self._runs:
                folder = self._run_folder(run) / "link"
                self._runs[run] = InboxFile(folder, run, self._bound)
            return self._runs[run]

    def _path(self, stamp: Stamp) -> Path:
        folder = self._file(stamp.run).path.parent
        return folder / f"reply-{stamp.epoch}-{stamp.seq}.bin"

    def _kept(self, stamp: Stamp) -> Kept | None:
        return self._file(stamp.run).state().replies.get(stamp)

    def _mapped(self, stamp: Stamp, kept: Kept) -> memoryview:
        path = self._path(stamp)
        try:
            view = _files.mapped(path)
            expected = kept.size - len(kept.data)
            if expected != view.nbytes:
                raise ConfigError(f"{expected} bytes expected, got {view.nbytes}")
            if stamp not in self._whole and digest_of([view]) != kept.sha256:
                raise ConfigError("its SHA-256 is another")
        except (OSError, ConfigError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise RunFolderError(
                f"the reply in {path} can't be read ({why}). Restore it, or remove it: then the "
                "coordinator goes on without this site's part of that round"
            ) from error
        self._whole.add(stamp)
        return view

    def _let_go(self, stamp: Stamp, kept: Kept) -> None:
        self._whole.discard(stamp)
        if kept.sha256:
            _remove(self._path(stamp))

    def _sweep(self, folder: Path, kept: set[str]) -> None:
        """Remove what kills have left of large replies, but of those to open orders."""
        for path in [*folder.glob("reply-*.bin"), *folder.glob(".reply-*.tmp")]:
            if path.name.lstrip(".").partition(".")[0] + ".bin" not in kept:
                _remove(path)
        for path in folder.glob(".inbox.bin.*.tmp"):
            _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"can't remove {path}: {error.strerror}; let its folder be written to"
        ) from error


@contextmanager
def _written(path: Path, so: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"can't write {path}: {error.strerror}. {so}Free space, or let it be written to"
        ) from error
