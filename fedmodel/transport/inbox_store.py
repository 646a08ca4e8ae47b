"""Files of a site's inbox: which orders were accepted, and replies to them.

::

    <run's folder>/link/inbox.json                the coordinator obeyed, the last order, open ones
    <run's folder>/link/reply-<epoch>-<seq>.bin   a reply: one line of JSON, then its bytes

A reply's line says which order it answers, how long its parts are, and the SHA-256 of all of them.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedmodel import _files, config
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.transport.inbox import Noted, Order, Part
from fedmodel.transport.stamps import Stamp, require_start

__all__ = ["InboxStore"]

_NAME = "inbox.json"
_LARGEST = 1 << 20  # bytes of a note; one of 64 open orders takes some 6 kB
_HEAD = 1 << 20  # bytes of a reply's first line
_RESTORE = (
    "By an older copy of it an order could be acted on twice: if it can't be repaired, let this "
    "run go on without this site, or begin another run"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inbox:
    schema: Literal["fedmodel.inbox/1"] = "fedmodel.inbox/1"
    run: str
    epoch: int
    start: str
    last: Order | None
    open: tuple[Order, ...]

    def __post_init__(self) -> None:
        require_start(self.epoch, self.start)
        orders = self.noted().stamps(self.run)
        seqs = [order.seq for order in orders]
        if seqs != sorted(set(seqs)) or (self.open[-1:] or (self.last,)) != (self.last,):
            raise ConfigError("open orders must grow, and end in the last one")

    def noted(self) -> Noted:
        return Noted(epoch=self.epoch, start=self.start, last=self.last, open=self.open)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    schema: Literal["fedmodel.outbox/1"] = "fedmodel.outbox/1"
    run: str
    epoch: int
    start: str
    seq: int
    order: str
    sha256: str
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(size < 0 for size in self.sizes):
            raise ConfigError("sizes of parts must be 0 or more")

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.run, self.epoch, self.start, self.seq, self.order)


class InboxStore:
    """The files of all runs' inboxes at a site.

    Args:
        run_folder: returns the folder of what is kept of a run, such as ``SiteState.run_folder``.
    """

    def __init__(self, run_folder: Callable[[str], Path]) -> None:
        self._run_folder = run_folder
        self._whole: set[Stamp] = set()  # replies that this process has written, or read whole

    @contextmanager
    def locked(self, run: str) -> Iterator[None]:
        """Keep other threads and processes out of a run's inbox.

        Args:
            run: its name.

        Raises:
            RunFolderError: when it can't be written to.
        """
        folder = self._folder(run)
        with ExitStack() as lock:
            with _written(folder):
                if not folder.is_dir():
                    _files.make_folder(folder)
                lock.enter_context(_files.locked(folder / ".lock", write=True))
            yield

    def read(self, run: str) -> Noted:
        """Return what was noted last, or an empty note.

        Args:
            run: its name.

        Raises:
            RunFolderError: when it can't be read, or is missing beside replies.
        """
        path = self._folder(run) / _NAME
        try:
            text = _files.read(path, _LARGEST).removesuffix(b"\n")
            found = config.parse(lambda plain: config.build(_Inbox, plain), text)
            if found.run != run:
                raise ConfigError(f"it is of run {found.run[:80]!r}")
        except FileNotFoundError:
            if any(path.parent.glob("reply-*.bin")):
                raise RunFolderError(f"{path} is missing beside replies. {_RESTORE}") from None
            return Noted()
        except OSError as error:
            raise RunFolderError(f"can't read {path}: {error.strerror}. {_RESTORE}") from error
        except ConfigError as error:
            raise RunFolderError(f"{path} can't be read ({error}). {_RESTORE}") from error
        return found.noted()

    def note(self, run: str, noted: Noted) -> None:
        """Replace what is noted; return once it is on disk.

        Args:
            run: its name.
            noted: the new content.

        Raises:
            RunFolderError: when it can't be written.
        """
        made = _Inbox(
            run=run, epoch=noted.epoch, start=noted.start, last=noted.last, open=noted.open
        )
        path = self._folder(run) / _NAME
        with _written(path, "Nothing was done for the order that came. "):
            _files.write_atomic(path, config.canonical(made) + b"\n", mode=0o600)

    def keep(self, stamp: Stamp, parts: Sequence[Part]) -> None:
        """Keep the reply to an order; return once it is on disk.

        Args:
            stamp: of the order.
            parts: of the reply.

        Raises:
            RunFolderError: when it can't be written.
        """
        views = [memoryview(part).cast("B") for part in parts if len(part)]
        head = _Reply(
            run=stamp.run,
            epoch=stamp.epoch,
            start=stamp.start,
            seq=stamp.seq,
            order=stamp.digest,
            sha256=_digest(views),
            sizes=tuple(memoryview(part).nbytes for part in parts),
        )
        first = config.canonical(head) + b"\n"
        if len(first) > _HEAD:
            raise RunFolderError(f"a reply of {len(parts)} parts has too many; join some of them")
        path = self._path(stamp)
        with _written(path, "This reply hasn't left the site. "):
            _files.write_whole(path, [first, *views], durable=True)
        self._whole.add(stamp)

    def has(self, stamp: Stamp) -> bool:
        """Return whether there is a reply to an order, whole.

        Args:
            stamp: of the order.

        Raises:
            RunFolderError: when there is one that can't be read, or isn't whole.
        """
        path = self._path(stamp)
        if not path.exists():
            self._whole.discard(stamp)
            return False
        if stamp not in self._whole:
            self.reply(stamp)
        return True

    def reply(self, stamp: Stamp) -> tuple[memoryview, ...]:
        """Return the parts of a reply: views into its file, which isn't read before they are.

        Args:
            stamp: of the order.

        Raises:
            RunFolderError: when it can't be read, or isn't whole.
        """
        path = self._path(stamp)
        try:
            view = _files.mapped(path)
            head, body = _split(view)
            if head.stamp != stamp:
                raise ConfigError(f"it answers order {head.order} of another number or coordinator")
            if sum(head.sizes) != body.nbytes:
                raise ConfigError(f"{sum(head.sizes)} bytes expected, got {body.nbytes}")
            if stamp not in self._whole and _digest([body]) != head.sha256:
                raise ConfigError("its SHA-256 is another")
        except (OSError, ConfigError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise RunFolderError(
                f"the reply in {path} can't be read ({why}). Restore it, or remove it: then the "
                "coordinator goes on without this site's part of that round"
            ) from error
        self._whole.add(stamp)
        ends = list(itertools.accumulate(head.sizes, initial=0))
        return tuple(body[begin:end] for begin, end in itertools.pairwise(ends))

    def drop(self, stamp: Stamp) -> None:
        """Remove the reply to an order, where there is one.

        Args:
            stamp: of the order.

        Raises:
            RunFolderError: when it can't be removed.
        """
        self._whole.discard(stamp)
        _remove(self._path(stamp))

    def sweep(self, run: str, kept: Sequence[Stamp]) -> None:
        """Remove all replies of a run, and what kills have left of some, but those to some orders.

        Args:
            run: its name.
            kept: whose replies stay.

        Raises:
            RunFolderError: when one can't be removed.
        """
        for stamp in list(self._whole):  # a copy: another thread may keep a reply meanwhile
            if stamp.run == run and stamp not in kept:
                self._whole.discard(stamp)
        names = {self._path(stamp).name for stamp in kept}
        folder = self._folder(run)
        for path in [*folder.glob("reply-*.bin"), *folder.glob(".reply-*.tmp")]:
            if path.name.lstrip(".").partition(".")[0] + ".bin" not in names:
                _remove(path)

    def _folder(self, run: str) -> Path:
        return self._run_folder(run) / "link"

    def _path(self, stamp: Stamp) -> Path:
        return self._folder(stamp.run) / f"reply-{stamp.epoch}-{stamp.seq}.bin"


def _split(view: memoryview) -> tuple[_Reply, memoryview]:
    first, end, _ = bytes(view[:_HEAD]).partition(b"\n")
    if not end:
        raise ConfigError("its first line has no end")
    head = config.parse(lambda plain: config.build(_Reply, plain), first)
    return head, view[len(first) + 1 :]


def _digest(views: Sequence[memoryview]) -> str:
    digest = hashlib.sha256()
    for view in views:
        digest.update(view)
    return digest.hexdigest()


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
