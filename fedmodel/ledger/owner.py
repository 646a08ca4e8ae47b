"""The owner of a ledger: the key that signs its tree heads, and the file of the last one."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fedmodel import _files, _hazmat
from fedmodel.errors import LedgerError, ProtocolError
from fedmodel.ledger.entries import OpenEntry
from fedmodel.ledger.form import Opened
from fedmodel.ledger.journal import Journal
from fedmodel.ledger.line import Line
from fedmodel.ledger.tree_head import Signer, TreeHead

__all__ = ["Owner", "SiteOwner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner(ABC):
    """Whoever writes a ledger.

    Args:
        signer: the key that signs its tree heads.
        head: file of the last one.
    """

    _about: ClassVar[str]  # in messages: what there is a ledger of

    signer: Signer
    head: Path

    @property
    def ledger(self) -> str:
        """The ledger's name to others: fingerprint of the key / what it is about."""
        return f"{_hazmat.fingerprint(self.signer.public)}/{self.subject}"

    @property
    @abstractmethod
    def subject(self) -> str:
        """What the ledger is about."""

    @abstractmethod
    def opening(self) -> Line:
        """Return a new ledger's first entry."""

    def check_own(self, opened: Opened, path: Path) -> None:
        """Check that a ledger that exists is this owner's.

        Raises:
            LedgerError: when it isn't.
        """
        if (opened.key, opened.ledger) != (self.signer.public.hex(), self.ledger):
            raise LedgerError(
                f"{path} is the ledger {opened.ledger} of another key or {self._about}, expected "
                f"{self.ledger}; restore the key, or this file, from a copy"
            )

    def sign(self, journal: Journal[Any, Any], time: str) -> TreeHead:
        """Return the signed tree head of what is in a journal."""
        head = TreeHead(
            ledger=self.ledger,
            key=self.signer.public.hex(),
            size=len(journal.entries),
            root=journal.tree.root().hex(),
            last=journal.last,
            time=time,
        )
        return head.signed(self.signer)

    def write_head(self, head: TreeHead) -> None:
        """Write the last tree head beside the ledger.

        Raises:
            LedgerError: when it can't be written.
        """
        try:
            if not self.head.parent.is_dir():
                _files.make_folder(self.head.parent)
            # What a power cut may bring back is an older head, which the ledger has grown from.
            _files.write_atomic(self.head, head.to_json() + b"\n", mode=0o600, durable=False)
        except OSError as error:
            raise LedgerError(
                f"can't write {self.head}: {error}. Nothing may be released for this entry; make "
                "room or repair the disk, then start again"
            ) from error

    def check_head(self, journal: Journal[Any, Any]) -> None:
        """Check that a ledger is the one of the tree head beside it, or has grown from it.

        A missing head is accepted: whoever could take it away could as well bring back an old
        one. (The coordinator's memory is what stands against that.)

        Raises:
            RollbackError: when it hasn't.
            LedgerError: when the head can't be read.
        """
        try:
            journal.check_extends(TreeHead.from_json(_files.read(self.head)))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise LedgerError(f"can't read {self.head}: {error.strerror}") from error
        except ProtocolError as error:
            raise LedgerError(
                f"{self.head}: {error}. Restore it from a copy; or, if you know that the ledger "
                "beside it is the newest there is, remove it"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOwner(Owner):
    """A site, of the ledger of one of its datasets.

    Args:
        site: the site's name.
        dataset: the declared name of the dataset.
    """

    _about = "dataset"

    site: str
    dataset: str

    @property
    def subject(self) -> str:
        """The dataset."""
        return self.dataset

    def opening(self) -> OpenEntry:
        """Return a new ledger's first entry."""
        key = self.signer.public.hex()
        return OpenEntry(ledger=self.ledger, key=key, site=self.site, dataset=self.dataset)
