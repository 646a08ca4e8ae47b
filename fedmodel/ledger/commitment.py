"""A commitment to the rows that a ledger is about; it tells nobody what they say.

Each row becomes HMAC-SHA256(salt, row) (RFC 2104), the salt being 32 random bytes that stay at the
site; without it nobody can try texts out. The hashes, sorted, are the leaves of a Merkle tree, so
the root depends on which rows there are and on nothing else: not on their order, and not on the
name of the file they came from.

Besides, every text and every patient has hashes of its own, its *subjects*: by them the same
people's data are recognised under another label or in another file. One is of the very text, one of
the text without blanks, line ends and differences of Unicode form, so that an edit which changes
only those doesn't make somebody new. Subjects that were once part of a dataset stay on its list for
ever, since what was spent on them stays spent. (Lists of earlier versions have the former only,
until the dataset's next join.)
"""

import hashlib
import hmac
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedmodel._text import one_form, without_blanks
from fedmodel.errors import LedgerError
from fedmodel.ledger import merkle
from fedmodel.ledger.entries import DatasetEntry
from fedmodel.ledger.lines import encode

__all__ = ["Commitment", "Leaves", "commit"]

_SHORT = 16  # bytes of a hash that are kept: 128 bits, so no two rows are confused
_MAGIC = b"fedmodel.leaves/2\n"
_HEADER = struct.Struct(">32s32s32sQQ")
_CHECK = 32  # bytes of the SHA-256 of all others, at the end

_NOTHING = bytes(32)  # stands for the entry before the first

Hashes = NDArray[np.bytes_]  # sorted, each of 16 bytes


@dataclass(frozen=True, slots=True, repr=False)
class Leaves:
    """The hashes of a dataset's rows and subjects, as they are kept beside the ledger.

    Args:
        salt_id: tells salts apart without telling them.
        after: SHA-256 of the ledger's last ``dataset`` entry when they were written, which was
            before their own; 32 zeros if there was none.
        root: Merkle root over the rows' hashes, as in their own entry.
        rows: of the rows, sorted; equal rows count as often as they come.
        subjects: of the texts and patients, sorted, each once: as written, and without blanks.
    """

    salt_id: bytes
    after: bytes
    root: bytes
    rows: Hashes
    subjects: Hashes

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        counts = len(self.rows), len(self.subjects)
        header = _HEADER.pack(self.salt_id, self.after, self.root, *counts)
        data = b"".join((_MAGIC, header, self.rows.tobytes(), self.subjects.tobytes()))
        return data + hashlib.sha256(data).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Leaves":
        """Return what :meth:`to_bytes` wrote.

        Raises:
            LedgerError: when it isn't that.
        """
        start = len(_MAGIC) + _HEADER.size
        if not data.startswith(_MAGIC) or len(data) < start:
            raise LedgerError("it isn't a list of leaves of this version (fedmodel.leaves/2)")
        salt_id, after, root, rows, subjects = _HEADER.unpack_from(data, len(_MAGIC))
        size = start + _SHORT * (rows + subjects) + _CHECK
        if len(data) != size:
            raise LedgerError(
                f"a list of {rows} + {subjects} leaves has {size} bytes, got {len(data)}"
            )
        if hashlib.sha256(data[:-_CHECK]).digest() != data[-_CHECK:]:
            raise LedgerError("its leaves were changed: its checksum is another")
        hashes = np.frombuffer(data, f"S{_SHORT}", rows + subjects, start)
        return cls(salt_id, after, root, hashes[:rows], hashes[rows:])

    def belong_to(self, entries: Sequence[DatasetEntry]) -> bool:
        """Return whether they have the subjects of all rows that a ledger knows of.

        They are those of its last entry, or one join ahead of it: they are written first, and a
        crash may have come before the entry.

        Args:
            entries: of the ledger, in order.
        """
        if self.after == _name_of(entries):
            return True
        return bool(entries) and (self.after, self.root.hex()) == (
            _name_of(entries[:-1]),
            entries[-1].root,
        )

    def are_of(self, last: DatasetEntry | None) -> bool:
        """Return whether their rows are those of an entry."""
        return last is not None and last.root == self.root.hex()


@dataclass(frozen=True, slots=True, repr=False)
class Commitment:
    """What is written down of a dataset, and what is kept to compare the next one with.

    Args:
        root: Merkle root over the rows' hashes.
        leaves: the hashes.
        patients: how many different ones; ``None`` where rows don't name theirs.
        looked_up: hashes that a text or patient may be known by, and the number of each's owner.
    """

    root: bytes
    leaves: Leaves
    patients: int | None
    looked_up: tuple[Hashes, NDArray[np.int64]]

    def shared(self, other: Leaves) -> int:
        """Return how many of these texts and patients are, or were, another dataset's."""
        hashes, owners = self.looked_up
        return len(np.unique(owners[np.isin(hashes, other.subjects)]))

    def entry(self, before: Leaves | None, last: DatasetEntry | None) -> DatasetEntry:
        """Return the ledger's entry for it.

        Args:
            before: the leaves that were kept; ``None`` where there were none. After a crash they
                may be of other rows than the last entry: what has changed isn't known then.
            last: the ledger's last entry of this kind.
        """
        added: int | None = len(self.leaves.rows)
        removed: int | None = 0
        if before is not None and before.are_of(last):
            added = _missing(self.leaves.rows, before.rows)
            removed = _missing(before.rows, self.leaves.rows)
        elif last is not None:
            same = last.root == self.root.hex()
            added = removed = 0 if same else None
        return DatasetEntry(
            root=self.root.hex(),
            rows=len(self.leaves.rows),
            patients=self.patients,
            added=added,
            removed=removed,
        )

    def to_keep(self, before: Leaves | None, entries: Sequence[DatasetEntry] = ()) -> Leaves:
        """Return the leaves to keep: these rows, and all subjects that there ever were.

        Args:
            before: the leaves that were kept.
            entries: of the ledger, without the one for this.
        """
        subjects = self.leaves.subjects
        if before is not None:
            subjects = np.union1d(before.subjects, subjects)
        return replace(self.leaves, after=_name_of(entries), subjects=subjects)


def commit(
    salt: bytes,
    texts: Sequence[str],
    labels: Sequence[str],
    patients: Sequence[str] | None = None,
) -> Commitment:
    """Return the commitment to some rows.

    Args:
        salt: 32 secret bytes, the same for all datasets of a site.
        texts: of the rows.
        labels: of the rows.
        patients: of the rows, where known.
    """
    written = [_bytes(text) for text in texts]
    ids = [b""] * len(texts) if patients is None else [_bytes(patient) for patient in patients]
    people = set(ids) if patients is not None else set()
    rows = zip(written, (_bytes(label) for label in labels), ids, strict=True)
    hashes = sorted(hmac.digest(salt, _row(*row), "sha256") for row in rows)
    known = _Subjects(salt)
    for text in set(texts):
        known.add(b"text\0", text)
    for patient in set(patients or ()):
        known.add(b"patient\0", patient)
    root = merkle.root_of([merkle.leaf_hash(h) for h in hashes])
    leaves = Leaves(
        hmac.digest(salt, b"salt", "sha256"),
        _NOTHING,
        root,
        _array(h[:_SHORT] for h in hashes),
        _array(sorted(known.kept)),
    )
    looked_up = _array(known.tried), np.array([*known.tried.values()], dtype=np.int64)
    return Commitment(root, leaves, None if patients is None else len(people), looked_up)


class _Subjects:
    """The hashes of texts and patients.

    Attributes:
        kept: to write down: each as written, and without blanks.
        tried: hash → number of its owner. Besides, each is looked for with single blanks, in which
            most texts are written that an earlier version has written down.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._owners: dict[bytes, int] = {}
        self.kept: set[bytes] = set()
        self.tried: dict[bytes, int] = {}

    def add(self, kind: bytes, text: str) -> None:
        """Take in a text, or a patient."""
        written, bare = self._hash(kind, text), self._hash(kind, without_blanks(text) or text)
        owner = self._owners.setdefault(bare, len(self._owners))
        self.kept |= {written, bare}
        for found in (written, bare, self._hash(kind, one_form(text))):
            self.tried[found] = owner

    def _hash(self, kind: bytes, text: str) -> bytes:
        return hmac.digest(self._salt, kind + _bytes(text), "sha256")[:_SHORT]


def _name_of(entries: Sequence[DatasetEntry]) -> bytes:
    """Return what names the last of a ledger's entries."""
    return hashlib.sha256(encode(entries[-1])).digest() if entries else _NOTHING


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _row(text: bytes, label: bytes, patient: bytes) -> bytes:
    # Lengths first: no two different rows are the same bytes.
    return b"row\0%d,%d\0%b%b%b" % (len(text), len(label), text, label, patient)


def _array(hashes: Iterable[bytes]) -> Hashes:
    return np.frombuffer(b"".join(hashes), dtype=f"S{_SHORT}")


def _missing(these: Hashes, those: Hashes) -> int:
    """Return how many of these aren't among those, equal ones counted one by one."""
    kinds, counts = np.unique(these, return_counts=True)
    others, other_counts = np.unique(those, return_counts=True)
    where = np.searchsorted(others, kinds)
    found = where < len(others)
    found[found] = others[where[found]] == kinds[found]
    there = np.zeros(len(kinds), dtype=np.int64)
    there[found] = other_counts[where[found]]
    return int(np.maximum(counts - there, 0).sum())
