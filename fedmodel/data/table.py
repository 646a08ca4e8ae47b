"""Checks that every reader shares: which columns are wanted, and their names and values."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmodel._text import one_form
from fedmodel.data.columns import Columns, problem, shown
from fedmodel.data.headers import dotted, find_columns
from fedmodel.data.rows import Rows
from fedmodel.data.values import MissingError, as_name, as_text, class_name
from fedmodel.errors import DataError

__all__ = ["Columns", "Table", "problem", "shown"]

_MOST_NAMES = 20

logger = logging.getLogger(__name__)


class Table:
    """Collects one file's values into ``Rows``, refusing the first one that isn't usable.

    Rows that lack a value are counted over the whole file; then it is refused, or they are left
    out. Sized: the rows it was given so far.
    """

    def __init__(self, name: str, columns: Columns) -> None:
        self.name = name
        self._columns = columns
        self._used: list[tuple[str, str]] = []
        self._tops: list[str] = []
        self._paths: list[tuple[str, ...]] = []
        self._unread: tuple[str, ...] = ()
        self._names: list[Sequence[object] | None] = []
        self._values: list[list[str]] = []
        self._sets: list[tuple[str, ...]] = []
        self._known: list[dict[str, str]] = []  # names as written → names, of each column
        self._seen = 0
        self._lacking: Counter[int] = Counter()
        self._incomplete = 0
        self._first: DataError | None = None

    def __len__(self) -> int:
        return self._seen

    @property
    def drops(self) -> bool:
        """Whether rows that lack a value are left out."""
        return self._columns.missing == "drop"

    def open(
        self,
        present: Sequence[str],
        place: str = "",
        *,
        leaves: Callable[[], Sequence[str]] | None = None,
        is_header: Callable[[], bool] | None = None,
    ) -> list[str]:
        """Check the names of the columns; return those to read, text and labels first.

        The same may stand there more than once, where several values lie in its objects. See
        :func:`~fedmodel.data.headers.find_columns` for the arguments.
        """
        every = find_columns(
            self.name, present, self._columns, place, leaves=leaves, is_header=is_header
        )
        roles = zip(self._columns.roles(), every, strict=True)
        self._used = [role for role, at in roles if at is not None]
        found = [at for at in every if at is not None]
        self._tops = [top for top, _ in found]
        self._paths = [path for _, path in found]
        used = {".".join((top, *path)) for top, path in found}
        self._unread = tuple(c for c in (leaves() if leaves else present) if c not in used)
        self._names = [None] * len(found)
        self._known = [{} for _ in found]
        self.name_classes(self._columns.features)
        kept = len(found) if self._columns.sets is None else len(found) - len(self._columns.labels)
        self._values = [[] for _ in range(kept)]
        return list(self._tops)

    def require(self, record: Mapping[str, Any], place: str = "") -> None:
        """Check that a row's own names have every column to read, as ``open`` does."""
        find_columns(self.name, list(record), self._columns, place, leaves=lambda: dotted(record))

    def name_classes(self, features: Mapping[str, Any]) -> None:
        """Let numbers stand for the names that the ``datasets`` library has kept for them.

        Args:
            features: of each column, as ``Features.to_dict()`` writes them.
        """
        for index, (_, column) in enumerate(self._used if features else ()):
            if column not in self._columns.flags:
                self._known[index].clear()
                feature = features.get(self._tops[index])
                self._names[index] = _class_names(feature, self._paths[index])

    def add(self, values: Sequence[object], place: str = "") -> None:
        """Check one row's values, in the order ``open`` gave, and keep them.

        Names of sites and patients are kept in one form: NFC, single blanks.

        Args:
            values: one for each used column.
            place: words on where the row stands beside its number, such as ``line 7``.
        """
        self._seen += 1
        sets, named = self._columns.sets, 1 + len(self._columns.labels)
        several: tuple[str, ...] = ()
        texts, lacking = [], []
        for index, value in enumerate(values):
            try:
                if sets is None or not 0 < index < named:
                    texts.append(self._text(index, value))
                elif index == 1:
                    several = sets.read([self._value(i, values[i]) for i in range(1, named)])
            except MissingError as error:
                lacking.append(index)
                self._first = self._first or self._refusal(index, place, str(error))
            except ValueError as error:
                raise self._refusal(index, place, str(error)) from None
        if lacking:
            self._lacking.update(lacking)
            self._incomplete += 1
            return
        for column, text in zip(self._values, texts, strict=True):
            column.append(text)
        self._sets.append(several)

    def _text(self, index: int, value: object) -> str:
        if index == 0:
            return as_text(self._value(index, value))
        known = self._known[index]
        if type(value) is str and value in known:
            return known[value]
        text = as_name(self._value(index, value))
        if self._used[index][0] in ("site", "patient"):
            # Another form of a name would make another site, with a budget of its own, or another
            # person, who is hidden by halves.
            text = one_form(text)
        if type(value) is str:
            known[value] = text
        return text

    def _value(self, index: int, value: object) -> object:
        return class_name(_within(value, self._paths[index]), self._names[index])

    def at(self, row: int, place: str = "") -> str:
        """Return words for the place of a row (counted from 1)."""
        return f"row {row} ({place})" if place else f"row {row}"

    def rows(self) -> Rows:
        """Return what was collected.

        Raises:
            DataError: if rows lack a value and aren't to be left out, or there is no row.
        """
        if self._first is not None and not self.drops:
            raise DataError(f"{self._first}{self._how_many()}")
        if self._incomplete:
            logger.warning(
                "%s: %d of %d rows are left out, for they lack a value (data.missing=drop): %s",
                self.name, self._incomplete, self._seen, self._where(),
            )  # fmt: skip
        if not self._values or not self._values[0]:
            got = f"none that is complete ({self._where()})" if self._incomplete else "none"
            raise problem(
                self.name,
                "",
                expected="at least one row of data",
                got=got if self._values else "an empty file",
                fix="give a file with rows",
            )
        single = self._columns.sets is None
        roles = [role for role, _ in self._used if single or role != "label"]
        columns = dict(zip(roles, self._values, strict=True))
        return Rows(
            columns["text"],
            columns["label"] if single else self._sets,
            columns.get("site"),
            columns.get("patient"),
            classes=self._classes(),
            unread=self._unread,
        )

    def _classes(self) -> tuple[str, ...] | None:
        """Return the names of the label's numbers as rows have them, by number."""
        names = self._names[1] if len(self._names) > 1 else None
        try:
            found = tuple(
                as_name(name.strip() if self._columns.sets is not None else name)
                for name in names or ()
                if isinstance(name, str)
            )
        except ValueError:  # an empty one, say
            return None
        whole = names is not None and len(set(found)) == len(names)
        return found if whole else None

    def _how_many(self) -> str:
        rows = f"{self._incomplete} of {self._seen} rows lack a value"
        return f", or set data.missing=drop to leave it out ({rows}: {self._where()})"

    def _where(self) -> str:
        return ", ".join(
            f"{self._used[index][0]} ('{self._used[index][1]}') {count}"
            for index, count in sorted(self._lacking.items())
        )

    def _refusal(self, index: int, place: str, got: str) -> DataError:
        at = self.at(self._seen, place)
        role, column = self._used[index]
        sets = self._columns.sets
        if sets is not None and role == "label":
            names = ", ".join(f"'{name}'" for name in self._columns.labels[:_MOST_NAMES])
            expected = f"{sets.expected} in {'columns' if sets.flags else 'column'} {names}"
            fix = (
                "correct the row; a row without a label has an empty cell, an empty list or only 0"
            )
        else:
            kind = "text" if index == 0 else "text or a whole number"
            expected = f"{kind} in column '{column}' (the {role})"
            fix = _FIXES.get(got, "convert the column")
            if got.endswith("dict"):
                fix = f"name what is meant inside it (data.{role}={column}.NAME)"
            if got.endswith("list") and role == "label":
                fix = "several labels for a row are model.task=multi-label-classification"
        return problem(self.name, at, expected=expected, got=got, fix=fix)


_FILL = "fill it in or remove the row"
_FIXES = {
    "nothing (null or NaN)": _FILL,
    "an empty value": _FILL,
    "only white space": _FILL,
    "a date or a time": "keep the column as text (a spreadsheet makes one of 3-4 and of 03/04, so "
    "two names may have become one)",
    "a NUL byte": "remove it; the file may be damaged",
    "half of a surrogate pair (not a character)": "write the file again as UTF-8",
}


def _within(value: object, path: tuple[str, ...]) -> object:
    """Return what lies in an object at a path; ``None`` where there is none."""
    for key in path:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ValueError(f"a value of type {type(value).__name__} where an object belongs")
        value = value.get(key)
    return value


def _class_names(feature: Any, path: Sequence[str]) -> Sequence[object] | None:
    """Return the names that a column's numbers, or the numbers in its lists, stand for."""
    for key in path:
        feature = feature.get(key) if isinstance(feature, dict) else None
    while True:
        if isinstance(feature, list) and len(feature) == 1:  # as older versions wrote a list
            feature = feature[0]
        elif isinstance(feature, dict) and isinstance(feature.get("feature"), dict | list):
            feature = feature["feature"]
        else:
            break
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    return names if isinstance(names, list) else None
