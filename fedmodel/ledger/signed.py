"""Signed journal: a ledger's file beside which its owner keeps a signed tree head."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from fedmodel.errors import ConfigError, RollbackError
from fedmodel.ledger.form import Sums
from fedmodel.ledger.journal import Journal, Writer
from fedmodel.ledger.line import Line
from fedmodel.ledger.owner import Owner
from fedmodel.ledger.tree_head import TreeHead

__all__ = ["SignedJournal"]

E = TypeVar("E", bound=Line)
B = TypeVar("B", bound=Sums)


class SignedJournal(Generic[E, B]):
    """A journal whose every change is signed for. Anybody may read it; its owner writes.

    Args:
        journal: the file.
        owner: who writes; ``None`` to read only.
        clock: tells the time.
    """

    def __init__(
        self, journal: Journal[E, B], owner: Owner | None, clock: Callable[[], str]
    ) -> None:
        self._journal = journal
        self._owner = owner
        self._clock = clock
        self._head: TreeHead | None = None
        self._checked = False  # against the tree head beside it

    @contextmanager
    def reading(self) -> Iterator[Journal[E, B]]:
        """Give the journal as it is now, and keep writers out meanwhile.

        Raises:
            LedgerError: naming the first line that isn't as it should be.
            RollbackError: when it lacks entries that it once had.
        """
        with self._journal.reading():
            self._check_head()
            yield self._journal

    @contextmanager
    def writing(self) -> Iterator[Writer[E, B]]:
        """Give what the journal is appended to by; what was appended is signed for at the end.

        Raises:
            ConfigError: for a ledger that was opened without its owner.
            LedgerError: when the ledger can't be read, isn't valid or can't be written.
        """
        owner = self._required()
        with self._journal.writing() as writer:
            self._check_head()
            opened, before = self._journal.book.opened, len(self._journal.entries)
            if opened is None:
                writer.append(owner.opening())
            else:
                owner.check_own(opened, self._journal.path)
            yield writer
            if len(self._journal.entries) != before:
                self._sign(owner)

    def head(self) -> TreeHead:
        """Return the signed head of the ledger as it is now.

        Raises:
            ConfigError: for a ledger that was opened without its owner.
            LedgerError: when the ledger can't be read, isn't valid or can't be written.
        """
        owner = self._required()
        with self.writing() as writer:
            head = self._head
            if head is None or head.size != len(self._journal.entries):
                writer.sync()  # what others are told of must not be lost to a power cut
                head = self._sign(owner)
            return head

    def prove(self, size: int) -> list[str]:
        """Return the proof that the ledger begins with its first ``size`` entries (hex).

        :meth:`fedmodel.ledger.tree_head.TreeHead.check_follows` checks it, without seeing an entry.

        Raises:
            RollbackError: when it never had so many.
        """
        with self.reading() as journal:
            tree = journal.tree
            if not 0 <= size <= len(tree):
                raise RollbackError(
                    f"{journal.path} has {len(tree)} entries, but is asked about a head of {size}"
                )
            return [node.hex() for node in tree.proof(size)]

    def _required(self) -> Owner:
        if self._owner is None:
            raise ConfigError("this ledger was opened for reading; to write, give its owner")
        return self._owner

    def _check_head(self) -> None:
        if self._owner is not None and not self._checked:
            self._owner.check_head(self._journal)
            self._checked = True

    def _sign(self, owner: Owner) -> TreeHead:
        self._head = owner.sign(self._journal, self._clock())
        owner.write_head(self._head)
        return self._head
