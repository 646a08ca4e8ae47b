"""Columns that are wanted of a file, and words for what is wrong with one.

A message may show names of columns and of labels (a public vocabulary), never the text of a row.
A long "name" is taken for data, as the first row of a file without a header would be, and hidden.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedmodel.data.label_sets import LabelSets
from fedmodel.errors import DataError

__all__ = ["Columns", "looks_like_data", "problem", "shown"]

_LONGEST_NAME = 40
_MOST_WORDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns to read; ``site`` and ``patient`` may be absent from a test file.

    A name with dots may also be a path into a column of objects: ``note.text``.

    Args:
        text: column of the text.
        labels: column of the label, or columns of 0 and 1 for each.
        sets: how sets of labels are written; ``None`` where a row has one label.
        site: column of the site.
        patient: column of the patient.
        optional: whether the last two may be absent.
        missing: what becomes of a row without a value in one of the columns.
        features: what a dataset's card says of its columns, as ``Features.to_dict()`` writes it.
    """

    text: str
    labels: tuple[str, ...]
    sets: LabelSets | None = None
    site: str | None = None
    patient: str | None = None
    optional: bool = False
    missing: Literal["refuse", "drop"] = "refuse"
    features: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flags(self) -> frozenset[str]:
        """Columns of 0 and 1: their numbers are no names."""
        return frozenset(self.sets.flags if self.sets is not None else ())

    def roles(self) -> Iterator[tuple[str, str]]:
        """Yield each wanted column's role and name, text and labels first."""
        yield "text", self.text
        for label in self.labels:
            yield "label", label
        if self.site is not None:
            yield "site", self.site
        if self.patient is not None:
            yield "patient", self.patient


def problem(name: str, place: str, *, expected: str, got: str, fix: str) -> DataError:
    """Return the error for one thing wrong in the file ``name`` at ``place`` (may be empty)."""
    at = f"{name}, {place}" if place else name
    return DataError(f"{at}: expected {expected}, got {got}; {fix}")


def shown(value: str) -> str:
    """Return a label or column name for a message; a long one is data and isn't shown.

    >>> shown("cardiac"), shown("x" * 41)
    ("'cardiac'", 'a value of 41 characters')
    """
    if len(value) > _LONGEST_NAME or not value.isprintable():
        return f"a value of {len(value)} characters"
    return repr(value)


def looks_like_data(name: str) -> bool:
    """Return whether a column's name is rather a row's value.

    >>> looks_like_data("final report"), looks_like_data("she came at night and was seen")
    (False, True)
    """
    return len(name) > _LONGEST_NAME or name.count(" ") >= _MOST_WORDS or not name.isprintable()
