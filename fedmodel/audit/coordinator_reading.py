"""Reading of a coordinator's ledger: once, line by line, as far as it can be followed."""

from dataclasses import dataclass, field

from fedmodel.audit.coordinator_lines import decode_faster
from fedmodel.audit.reading import Fault, read_lines
from fedmodel.ledger import merkle
from fedmodel.ledger.coordinator_entries import CoordinatorEntry, RunEntry, StartEntry
from fedmodel.ledger.coordinator_lines import CoordinatorBook, of_a_newer_version
from fedmodel.ledger.line import FIRST

__all__ = ["CoordinatorReading", "read_coordinator"]


@dataclass(slots=True)
class CoordinatorReading:
    """A coordinator's ledger as far as it was read: to its end, or to the first wrong line.

    Args:
        name: of the part.
        entries: that were read.
        book: what they add up to.
        leaves: hashes of their lines, of which the Merkle tree is.
        last: SHA-256 of the last of these lines, hex.
        form: the first line that is no entry.
        link: the first line that doesn't follow the one before it.
        rule: the first line that can't stand where it does.
        torn: how many bytes follow the last whole line.
    """

    name: str
    entries: list[CoordinatorEntry] = field(default_factory=list)
    book: CoordinatorBook = field(default_factory=CoordinatorBook)
    leaves: list[bytes] = field(default_factory=list)
    last: str = FIRST
    form: Fault | None = None
    link: Fault | None = None
    rule: Fault | None = None
    torn: int = 0
    _roots: dict[int, str] = field(default_factory=dict)
    _tree: merkle.Tree | None = None

    @property
    def tree(self) -> merkle.Tree:
        """Merkle tree over the lines, put together once all are read."""
        if self._tree is None:
            self._tree = merkle.Tree(self.leaves)
        return self._tree

    def root(self, size: int) -> str:
        """Return the Merkle root over the first entries, hex: as many sites were shown it."""
        if size not in self._roots:
            self._roots[size] = self.tree.root(size).hex()
        return self._roots[size]

    @property
    def opened(self) -> RunEntry | None:
        """The ledger's beginning."""
        return self.book.opened

    @property
    def starts(self) -> list[StartEntry]:
        """The coordinator's starts, in order."""
        return [entry for entry in self.entries if entry.type == "start"]

    def at(self, entry: CoordinatorEntry | int) -> str:
        """Return where an entry stands, for people."""
        return f"{self.name}, line {(entry if isinstance(entry, int) else entry.seq) + 1}"


def read_coordinator(name: str, text: bytes) -> CoordinatorReading:
    """Return what a coordinator's ledger says, up to the first line that is wrong.

    Args:
        name: of the part, for messages.
        text: its bytes.

    Raises:
        EvidenceError: for a line that a newer version has written.
    """
    found = CoordinatorReading(name)
    read_lines(found, text, decode_faster, of_a_newer_version)
    return found
