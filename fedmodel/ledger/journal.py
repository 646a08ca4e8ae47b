"""The ledger's file: whole lines in, whole lines out, in a chain, whatever happens in between.

One line per entry, each naming the SHA-256 of the line before it, so that a line that is edited,
moved or taken out is noticed. A line is on disk before :meth:`Journal.append` returns. Of a crash
there is, at worst, a line too many:

* A last line without its newline is an append that never returned. Where the entry is whole it
  counts, and the next writer puts the newline. Where it is cut, nothing was done on its account; it
  doesn't count, and the next writer replaces it by an entry ``torn`` that keeps its bytes.
* Whatever else isn't as it should be is an error that names the line: nothing is skipped, since a
  skipped line would be a spend that isn't counted.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from fedmodel import _files
from fedmodel.errors import FedmodelError, LedgerError, ProtocolError, RollbackError
from fedmodel.ledger import merkle
from fedmodel.ledger.form import Form, Sums
from fedmodel.ledger.line import FIRST, Line
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.seeds import Entropy

__all__ = ["Journal", "Writer", "utc_now"]

E = TypeVar("E", bound=Line)
B = TypeVar("B", bound=Sums)
T = TypeVar("T", bound=Line)


def utc_now() -> str:
    """Return the time as entries and tree heads write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Journal(Generic[E, B]):
    """A ledger's file and what was read of it. Its attributes are valid inside a ``with`` block.

    What was read and checked once isn't read again until the file changes: a round costs the same
    in a ledger of ten entries and of ten thousand.

    Args:
        path: of the file; the first writer makes it and its folder.
        form: of its lines.
        entropy: of the nonces.
        clock: tells the time.
    """

    def __init__(
        self,
        path: Path,
        form: Form[E, B],
        entropy: Entropy | None = None,
        clock: Callable[[], str] = utc_now,
    ) -> None:
        self.path = path
        self.form = form
        self._entropy = entropy or Entropy()
        self._clock = clock
        self._known = merkle.Tree()  # what is read must begin like this
        self._named = False  # whether the file's own name is known to be on disk
        self._forget()

    def _forget(self) -> None:
        self.entries: list[E] = []
        self.book = self.form.book()
        self._tree = merkle.Tree()
        self.last = FIRST
        self._seen = bytearray()  # the whole lines that were read and checked
        self._stamp: tuple[int, ...] | None = None

    @property
    def tree(self) -> merkle.Tree:
        """Merkle tree over the lines."""
        return self._tree

    @property
    def text(self) -> bytes:
        """The whole lines, as they are in the file."""
        return bytes(self._seen)

    # -- reading ---------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Bring the attributes up to date and keep writers out meanwhile.

        A file that doesn't exist is a ledger without entries.

        Raises:
            LedgerError: when the file can't be read, or naming its first line that isn't right.
            RollbackError: when the file lacks what this object has read or written there.
        """
        with ExitStack() as stack:
            try:
                file = stack.enter_context(_files.locked(self.path, write=False))
                tail = self._load(file)
            except FileNotFoundError:
                self._forget()
                self._check_known()
                tail = b""
            except OSError as error:
                raise LedgerError(f"can't read the ledger {self.path}: {error.strerror}") from error
            if tail and (entry := self._whole(tail)):
                self._known = merkle.Tree(self._tree.leaves())  # the next one reads it again
                self._note(entry, tail)
            yield

    def check_extends(self, head: TreeHead) -> None:
        """Check that the ledger is the one that a head was signed for, or has grown from it.

        Raises:
            ProtocolError: when the head isn't of this ledger, or isn't signed by its key.
            RollbackError: when the ledger is older than the head or was rewritten since.
        """
        opened, tree = self.book.opened, self._tree
        if opened is not None and (opened.ledger, opened.key) != (head.ledger, head.key):
            raise ProtocolError(f"a head of ledger {head.ledger:.80}, expected {opened.ledger}")
        head.verify()
        if head.size > len(tree):
            what = f"has {len(tree)} entries"
        elif tree.root(head.size).hex() != head.root:
            what = f"has others among its first {head.size} entries"
        else:
            return
        raise RollbackError(
            f"{self.path} {what}, but a head of {head.size} was signed at {head.time}: it is an "
            "old copy or was rewritten. Restore the newest one; until then nothing is spent"
        )

    def _load(self, file: _files.LockedFile) -> bytes:
        """Take in what the file has; return what follows its last newline."""
        stamp = file.stamp()
        if stamp == self._stamp:
            return b""
        raw = file.read()
        if self._stamp is None or not raw.startswith(self._seen):
            self._forget()
        self._stamp = None  # until all of it was good
        *lines, tail = raw[len(self._seen) :].split(b"\n")
        for line in lines:
            self._note(self._parse(line), line)
            self._seen += line + b"\n"
        self._check_known()
        self._stamp = None if tail else stamp
        return tail

    def _check_known(self) -> None:
        """Check that what this object has read or written before is still there."""
        if self._known is self._tree:
            return
        known, now = self._known.leaves(), self._tree.leaves()
        if now[: len(known)] == known:
            self._known = self._tree
            return
        pairs = enumerate(zip(known, now, strict=False))
        number = next((i for i, (then, here) in pairs if then != here), len(now))
        raise RollbackError(
            f"{self.path}, line {number + 1} isn't what this process has read or written there: "
            "somebody has changed the ledger. Restore it from a copy; without it nobody knows what "
            "was spent"
        )

    def _parse(self, line: bytes) -> E:
        number = len(self.entries) + 1
        try:
            entry = self.form.decode(line)
            if entry.seq != len(self.entries) or entry.prev != self.last:
                raise LedgerError(
                    f"it doesn't follow the line before it: expected entry {number - 1}, got "
                    f"{entry.seq}; a line was edited, moved or taken out. Restore the ledger from "
                    "a copy; without it nobody knows what was spent"
                )
            self.book.check(entry)
        except FedmodelError as error:
            raise LedgerError(f"{self.path}, line {number}: {error}") from error
        return entry

    def _whole(self, tail: bytes) -> E | None:
        """Return the entry of a last line that lacks nothing but its newline."""
        try:
            # No proper prefix of a canonical JSON object is one, so a cut line never passes.
            self.form.decode(tail)
        except FedmodelError:
            return None
        return self._parse(tail)

    def _note(self, entry: E, line: bytes) -> None:
        self.book.count(entry)
        self.entries.append(entry)
        self._tree.append(merkle.leaf_hash(line))
        self.last = hashlib.sha256(line).hexdigest()

    # -- writing ---------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator["Writer[E, B]"]:
        """Bring the attributes up to date and keep everybody else out meanwhile.

        Raises:
            LedgerError: when the file can't be read or written, or isn't valid.
            RollbackError: when the file lacks what this object has read or written there.
        """
        with ExitStack() as stack:
            try:
                if not self._named:
                    _files.make_folder(self.path.parent)
                file = stack.enter_context(_files.locked(self.path, write=True))
                tail = self._load(file)
            except OSError as error:
                raise self.cannot_write(error) from error
            writer = Writer(self, file)
            writer.settle(tail)
            yield writer

    def cannot_write(self, error: OSError) -> LedgerError:
        """Return what to tell when the disk fails."""
        return LedgerError(
            f"can't write the ledger {self.path}: {error}. Nothing may be released for this "
            "entry; make room or repair the disk, then start again"
        )

    def _stamped(self, entry: T) -> T:
        return replace(
            entry,
            seq=len(self.entries),
            prev=self.last,
            nonce=self._entropy.bytes(16).hex(),
            time=self._clock(),
        )


class Writer(Generic[E, B]):
    """What a journal is appended to by, while it is locked."""

    def __init__(self, journal: Journal[E, B], file: _files.LockedFile) -> None:
        self._journal = journal
        self._file = file

    def settle(self, tail: bytes) -> None:
        """Deal with a last line without newline, so that the next one begins at a line's start."""
        if not tail:
            return
        entry = self._journal._whole(tail)
        if entry:
            self._put(entry, tail, b"\n")
            return
        try:
            self._file.cut(len(self._journal._seen))
        except OSError as error:
            raise self._journal.cannot_write(error) from error
        self.append(self._journal.form.torn(tail))

    def append(self, entry: T) -> T:
        """Write an entry; return it as written, once it is on disk.

        Raises:
            LedgerError: then whether it is on disk is unknown, and if it is, it counts.
            ConfigError: when it has no canonical form; nothing is written then.
        """
        stamped = self._journal._stamped(entry)
        line = self._journal.form.encode(stamped)
        self._put(stamped, line, line + b"\n")
        return stamped

    def sync(self) -> None:
        """Make all that is in the file durable: a killed writer may not have come to it.

        Raises:
            LedgerError: when that isn't possible.
        """
        try:
            self._file.sync()
            _files.sync_folder(self._journal.path.parent)
        except OSError as error:
            raise self._journal.cannot_write(error) from error

    def _put(self, entry: Any, line: bytes, data: bytes) -> None:
        journal = self._journal
        journal.book.check(entry)
        journal._stamp = None  # until all went well
        try:
            self._file.append(data)
            if not journal._named:
                _files.sync_folder(journal.path.parent)
            stamp = self._file.stamp()
        except OSError as error:
            raise journal.cannot_write(error) from error
        journal._named = True
        journal._note(entry, line)
        journal._seen += line + b"\n"
        journal._stamp = stamp
