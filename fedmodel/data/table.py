"""Checks that every reader shares: which columns are wanted, and their names and values.

A message may show names of columns and of labels (a public vocabulary), never the text of a row.
A long "name" is taken for data, as the first row of a file without a header would be, and hidden.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fedmodel._text import one_form
from fedmodel.config import suggest
from fedmodel.data.label_sets import LabelSets
from fedmodel.data.rows import Rows
from fedmodel.errors import DataError

__all__ = ["Columns", "Table", "problem", "shown"]

_LONGEST_NAME = 40
_MOST_WORDS = 5
_MOST_NAMES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns to read; ``site`` and ``patient`` may be absent from a test file.

    Args:
        text: column of the text.
        labels: column of the label, or columns of 0 and 1 for each.
        sets: how sets of labels are written; ``None`` where a row has one label.
        site: column of the site.
        patient: column of the patient.
        optional: whether the last two may be absent.
    """

    text: str
    labels: tuple[str, ...]
    sets: LabelSets | None = None
    site: str | None = None
    patient: str | None = None
    optional: bool = False


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


def _looks_like_data(name: str) -> bool:
    return len(name) > _LONGEST_NAME or name.count(" ") >= _MOST_WORDS or not name.isprintable()


class Table:
    """Collects one file's values into ``Rows``, refusing the first one that isn't usable."""

    def __init__(self, name: str, columns: Columns) -> None:
        self.name = name
        self._columns = columns
        self._used: list[str] = []
        self._values: list[list[str]] = []
        self._sets: list[tuple[str, ...]] = []

    def __len__(self) -> int:
        return len(self._values[0]) if self._values else 0

    def open(self, present: Sequence[str], place: str = "") -> list[str]:
        """Check the names of the columns; return those to read, text and labels first."""
        twice = [name for name, count in Counter(present).items() if count > 1]
        if twice:
            listed = ", ".join(
                "a long name" if _looks_like_data(t) else shown(t) for t in twice[:5]
            )
            raise problem(
                self.name,
                place,
                expected="column names that differ",
                got=f"the same name more than once: {listed}",
                fix="rename or remove the doubles",
            )
        wanted = self._columns
        self._used = [wanted.text, *wanted.labels]
        for extra in (wanted.site, wanted.patient):
            if extra is not None and (extra in present or not wanted.optional):
                self._used.append(extra)
        self.require(present, place)
        self._values = [[] for _ in self._used]
        return self._used

    def require(self, present: Sequence[str], place: str = "") -> None:
        """Check that every column to read is among ``present``."""
        for name in self._used:
            if name not in present:
                raise self._missing(name, present, place)

    def add(self, values: Sequence[object], place: str = "") -> None:
        """Check one row's values, in the order ``open`` gave, and keep them.

        Names of sites and patients are kept in one form: NFC, single blanks.

        Args:
            values: one for each used column.
            place: words on where the row stands beside its number, such as ``line 7``.
        """
        sets, named = self._columns.sets, 1 + len(self._columns.labels)
        read = range(0) if sets is None else range(1, named)
        if sets is not None:
            self._sets.append(self._label_set(sets, [values[i] for i in read], place))
        for index, value in enumerate(values):
            if index in read:
                continue
            if type(value) is int and index:
                value = str(value)
            if not isinstance(value, str) or not value or value.isspace() or not _clean(value):
                raise self._refusal(index, value, place)
            # Another form of a name would make another site, with a budget of its own, or another
            # person, who is hidden by halves.
            self._values[index].append(one_form(value) if index >= named else value)

    def _label_set(self, sets: LabelSets, values: Sequence[object], place: str) -> tuple[str, ...]:
        try:
            return sets.read(values)
        except ValueError as error:
            got = str(error)
        names = ", ".join(f"'{name}'" for name in self._columns.labels[:_MOST_NAMES])
        raise problem(
            self.name,
            self.at(len(self) + 1, place),
            expected=f"{sets.expected} in {'columns' if sets.flags else 'column'} {names}",
            got=got,
            fix="correct the row; a row without a label has an empty cell, an empty list or only 0",
        )

    @property
    def flags(self) -> frozenset[str]:
        """Columns of 0 and 1: their numbers are no names."""
        sets = self._columns.sets
        return frozenset(sets.flags if sets is not None else ())

    def at(self, row: int, place: str = "") -> str:
        """Return words for the place of a row (counted from 1)."""
        return f"row {row} ({place})" if place else f"row {row}"

    def rows(self) -> Rows:
        """Return what was collected; a file without rows is refused."""
        if not len(self):
            raise problem(
                self.name,
                "",
                expected="at least one row of data",
                got="an empty file" if not self._values else "none",
                fix="give a file with rows",
            )
        columns = dict(zip(self._used, self._values, strict=True))
        wanted = self._columns
        return Rows(
            self._values[0],
            self._sets if wanted.sets is not None else self._values[1],
            columns.get(wanted.site) if wanted.site else None,
            columns.get(wanted.patient) if wanted.patient else None,
        )

    def _role(self, index: int) -> str:
        name = self._used[index]
        if index < 1 + len(self._columns.labels):
            return "label" if index else "text"
        return "site" if name == self._columns.site else "patient"

    def _missing(self, name: str, present: Sequence[str], place: str) -> DataError:
        role = self._role(self._used.index(name))
        wanted = {c for c in (self._columns.text, *self._columns.labels, self._columns.site) if c}
        header = any(c in present or suggest(c, present) for c in wanted)
        if not header or any(_looks_like_data(column) for column in present):
            # Perhaps no header at all: then these are a row's values, which are not to be shown.
            got = f"{len(present)} columns whose names look like data"
            fix = f"begin the file with a line of column names, or set data.{role}"
        else:
            listed = ", ".join(present[:_MOST_NAMES]) + (", …" * (len(present) > _MOST_NAMES))
            got = f"the columns: {listed or '(none)'}"
            many = "s" if role == "label" and self.flags else ""
            fix = f"set data.{role}{many} to the column{many} of the {role}{many}"
            fix += suggest(name, present)
        if len(present) == 1 and any(mark in present[0] for mark in ";\t|"):
            fix += "; the values must be separated by commas"
        return problem(self.name, place, expected=f"a column '{name}'", got=got, fix=fix)

    def _refusal(self, index: int, value: object, place: str) -> DataError:
        got, fix = _fault(value)
        kind = "text" if index == 0 else "text or a whole number"
        return problem(
            self.name,
            self.at(len(self._values[-1]) + 1, place),
            expected=f"{kind} in column '{self._used[index]}' (the {self._role(index)})",
            got=got,
            fix=fix,
        )


def _clean(value: str) -> bool:
    if "\0" in value:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fault(value: object) -> tuple[str, str]:
    """Say what is wrong with a value, and what to do."""
    fill = "fill it in or remove the row"
    # NaN is the only value that differs from itself; it stands for "missing" in most tools.
    if value is None or (isinstance(value, float) and value != value):
        return "nothing (null or NaN)", fill
    if not isinstance(value, str):
        return f"a value of type {type(value).__name__}", "convert the column"
    if not value:
        return "an empty value", fill
    if value.isspace():
        return "only white space", fill
    if "\0" in value:
        return "a NUL byte", "remove it; the file may be damaged"
    return "half of a surrogate pair (not a character)", "write the file again as UTF-8"
