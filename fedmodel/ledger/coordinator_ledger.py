"""A coordinator's ledger of one run: each thing is on disk before it is asked for or told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedmodel.ledger.coordinator_entries import CoordinatorEntry, RunEntry
from fedmodel.ledger.coordinator_lines import FORM
from fedmodel.ledger.journal import Journal, utc_now
from fedmodel.ledger.owner import Owner
from fedmodel.ledger.signed import SignedJournal
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.seeds import Entropy

__all__ = ["CoordinatorLedger", "CoordinatorOwner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorOwner(Owner):
    """A coordinator, of the ledger of one of its runs.

    Args:
        run: the run's name.
    """

    _about = "run"

    run: str

    @property
    def subject(self) -> str:
        """The run."""
        return self.run

    def opening(self) -> RunEntry:
        """Return a new ledger's first entry."""
        return RunEntry(ledger=self.ledger, key=self.signer.public.hex(), run=self.run)


class CoordinatorLedger:
    """A coordinator's ledger in one file. Anybody may read it; its owner writes.

    Args:
        path: of the file; the first writer makes it and its folder.
        owner: who writes; ``None`` to read only.
        entropy: of the nonces.
        clock: tells the time.
    """

    def __init__(
        self,
        path: Path,
        owner: CoordinatorOwner | None = None,
        *,
        entropy: Entropy | None = None,
        clock: Callable[[], str] = utc_now,
    ) -> None:
        journal = Journal(path, FORM, entropy, clock)
        self._signed = SignedJournal(journal, owner, clock)

    def note(self, entry: CoordinatorEntry) -> None:
        """Write an entry; return once it is on disk, and signed for.

        Args:
            entry: what is about to be asked or told, or has come.

        Raises:
            ConfigError: when it can't be written as a line; nothing is written then.
            LedgerError: when the ledger can't be read, isn't valid or can't be written. What the
                entry is about mustn't be done.
            RollbackError: when it lacks entries that it once had.
        """
        with self._signed.writing() as writer:
            writer.append(entry)

    def entries(self) -> tuple[CoordinatorEntry, ...]:
        """Return all entries after checking every line and the chain.

        Raises:
            LedgerError: naming the first line that isn't as it should be.
            RollbackError: when it lacks entries that it once had.
        """
        with self._signed.reading() as journal:
            return tuple(journal.entries)

    def prove(self, size: int) -> list[str]:
        """Return the proof that the ledger begins with its first ``size`` entries (hex).

        Raises:
            RollbackError: when it never had so many.
        """
        return self._signed.prove(size)

    def head(self) -> TreeHead:
        """Return the signed head of the ledger as it is now.

        Raises:
            ConfigError: for a ledger that was opened without its owner.
            LedgerError: when the ledger can't be read, isn't valid or can't be written.
        """
        return self._signed.head()
