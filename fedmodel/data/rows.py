"""Rows of one table, held by columns."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmodel.errors import DataError
from fedmodel.tasks import Label

__all__ = ["Rows", "sha256_of_rows"]


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """Labelled texts; the columns are tuples of equal length.

    The rows are secret: ``repr`` gives their number only, so that none ends up in a log.

    Args:
        texts: what the model reads.
        labels: of each row, of the task's kind: a name, or a set of names (a sorted tuple).
        sites: the site each row belongs to, where known.
        patients: the patient each row is about, where known.
        classes: names that the rows' source has numbered, in the order of their numbers; of some
            there may be no row. ``None`` where it hasn't.
        unread: names of the columns that the source has beside those that were read.

    Raises:
        DataError: if the columns differ in length.

    >>> Rows(["a", "b"], ["x", "y"])
    Rows(2 rows)
    """

    texts: Sequence[str]
    labels: Sequence[Label]
    sites: Sequence[str] | None = None
    patients: Sequence[str] | None = None
    classes: tuple[str, ...] | None = field(default=None, compare=False, kw_only=True)
    unread: tuple[str, ...] = field(default=(), compare=False, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("texts", "labels", "sites", "patients"):
            column = getattr(self, name)
            if column is None:
                continue
            if len(column) != len(self.texts):
                raise DataError(
                    f"columns of rows must be of equal length: expected {len(self.texts)} {name} "
                    f"as there are texts, got {len(column)}; pass one value for each row"
                )
            object.__setattr__(self, name, tuple(column))

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Rows({len(self)} rows)"

    def select(self, indices: Iterable[int]) -> "Rows":
        """Return the rows at ``indices`` (counted from 0), in that order."""
        places = [int(i) for i in indices]

        def chosen(column: Sequence[str] | None) -> list[str] | None:
            return None if column is None else [column[i] for i in places]

        return Rows(
            [self.texts[i] for i in places],
            [self.labels[i] for i in places],
            chosen(self.sites),
            chosen(self.patients),
            classes=self.classes,
            unread=self.unread,
        )

    @classmethod
    def concat(cls, parts: Iterable["Rows"]) -> "Rows":
        """Return the rows of all ``parts``, one part after another.

        Where they don't number the same classes alike, the whole numbers none; unread columns are
        those of all parts.

        Raises:
            DataError: if some parts have a site or patient column and others don't.
        """
        known = list(parts)

        def joined(name: str) -> list[Any] | None:
            columns = [getattr(part, name) for part in known]
            absent = sum(column is None for column in columns)
            if absent not in (0, len(columns)):
                raise DataError(
                    f"rows can't be joined: expected {name} in all {len(columns)} parts or in "
                    f"none, got {len(columns) - absent} with and {absent} without; load them "
                    "with the same columns"
                )
            return None if absent else [value for column in columns for value in column]

        if not known:
            return cls((), ())
        texts, labels = joined("texts"), joined("labels")
        numbered = {part.classes for part in known}
        classes = numbered.pop() if len(numbered) == 1 else None
        sites, patients = joined("sites"), joined("patients")
        unread = tuple(c for c in known[0].unread if all(c in part.unread for part in known))
        return cls(texts or (), labels or (), sites, patients, classes=classes, unread=unread)


def sha256_of_rows(parties: Mapping[str, Rows], test: Rows) -> str:
    """Return the SHA-256 (hex) of all rows that a run has, to notice at a resume that they changed.

    Args:
        parties: site → its rows; empty for who sees none of theirs.
        test: rows that the model is tested on.
    """
    rows = [(name, r.texts, r.labels, r.patients) for name, r in sorted(parties.items())]
    whole = json.dumps([*rows, ("", test.texts, test.labels)], ensure_ascii=True)
    return hashlib.sha256(whole.encode()).hexdigest()
