"""Lines of one shape: an entry that they all are but for the values of fields that vary.

Canonical JSON has one way of writing each value, so a line is an entry's own, byte for byte, when
it is another such line but for values of the fields that differ from line to line, each written
in its own canonical form. A name in quotes followed by a colon can't stand inside a string, where
quotes are escaped, and no part of an entry has such fields but the entry itself.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

from fedmodel.ledger.entries import Entry

__all__ = ["VARIES", "Alike", "all_made", "fit"]

# Of no entries of the coordinator's ledger there is no root: such a line has another shape.
VARIES = re.compile(
    rb'"(attempt|coordinator_entries(?!":0)|coordinator_root|manifest|model|nonce|of|prev|'
    rb'reservation|round|seq|time|update)":'
    rb'("(?:[0-9a-f]{32}|[0-9a-f]{64}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"'
    rb"|0|[1-9][0-9]{0,14})(?=[,}])"
)
"""Splits a line into what is the same in all of its shape, and names and values that vary."""

_HASH = "[0-9a-f]{64}"
_TEXTS = {
    "coordinator_root": _HASH,
    "manifest": _HASH,
    "model": _HASH,
    "nonce": "[0-9a-f]{32}",
    "prev": _HASH,
    "time": "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z",
    "update": _HASH,
}
_HEX = frozenset(_TEXTS) - {"time"}
_ABOVE_ZERO = ("coordinator_entries",)
_DIGITS = 15
_VALUES = {
    **dict.fromkeys(("attempt", "of", "reservation", "round", "seq"), "0|[1-9][0-9]{0,14}"),
    **dict.fromkeys(_ABOVE_ZERO, "[1-9][0-9]{0,14}"),
    **_TEXTS,
}
_FORMS = {
    key: re.compile(f'"{value}"' if key in _TEXTS else value).fullmatch
    for key, value in _VALUES.items()
}
_TIMES = re.compile(f"(?:{_TEXTS['time']})+").fullmatch
_PAYS = 64  # lines of a kind from which on it pays to make their pattern

_Put: TypeAlias = Callable[[Any, Any], None]
T = TypeVar("T")


def all_made(kind: type[T], count: int, fields_: Iterable[tuple[_Put, Iterable[Any]]]) -> list[T]:
    """Return so many frozen objects, whose values have been checked.

    Args:
        kind: of object.
        count: how many.
        fields_: what sets a field, and its value in each of them.
    """
    made = [object.__new__(kind) for _ in range(count)]
    # Field by field, for all of them at once: without a step of Python's for each.
    for put, values in fields_:
        deque(map(put, made, values), 0)
    return made


def fit(keys: Sequence[str], values: Sequence[bytes]) -> bool:
    """Return whether each value is written as its field's are."""
    found = zip(keys, values, strict=True)
    return all(value.isascii() and _FORMS[key](value.decode()) for key, value in found)


@dataclass(slots=True, eq=False)
class Alike:
    """An entry of a shape, and where the values of other such lines go.

    Args:
        kind: of entry.
        same: what sets a field whose value all such lines share, and the value.
        numbers: what sets a field that is a whole number, and its place among what varies.
        texts: likewise of one that is a text.
        keys: their names.
        literals: the text before each of them, and after the last.
        count: so many lines of it have come.
        match: finds the values of such a line, by its pattern, once that was made.
        then: what came after one.
    """

    kind: type[Any]
    same: tuple[tuple[_Put, Any], ...]
    numbers: tuple[tuple[_Put, int], ...]
    texts: tuple[tuple[_Put, int], ...]
    keys: tuple[str, ...]
    literals: tuple[str, ...]
    count: int = 0
    match: "Callable[[str], re.Match[str] | None] | None" = None
    then: "Alike | None" = None

    @classmethod
    def of(cls, entry: Entry, pieces: Sequence[bytes]) -> "Alike":
        """Return the shape of a line.

        Args:
            entry: that it is.
            pieces: of it, as :data:`VARIES` splits it.
        """
        keys = [key.decode() for key in pieces[1::3]]
        kind = type(entry)
        puts = [(key, getattr(kind, key).__set__) for key in keys]
        names = [field.name for field in fields(entry) if field.name not in keys]
        return cls(
            kind=kind,
            same=tuple((getattr(kind, name).__set__, getattr(entry, name)) for name in names),
            numbers=tuple((put, n) for n, (key, put) in enumerate(puts) if key not in _TEXTS),
            texts=tuple((put, n) for n, (key, put) in enumerate(puts) if key in _TEXTS),
            keys=tuple(keys),
            literals=tuple(piece.decode() for piece in pieces[::3]),
        )

    def filled(self, values: Sequence[str]) -> Any:
        """Return the entry of the shape with such values, each in the form of its field's."""
        made = object.__new__(self.kind)
        for put, value in self.same:
            put(made, value)
        for put, place in self.texts:
            put(made, values[place])
        for put, place in self.numbers:
            put(made, int(values[place]))
        return made

    def all_filled(self, columns: Sequence[Sequence[str]]) -> list[Any]:
        """Return the entries of the shape with such values (:meth:`columns`)."""
        same = ((put, repeat(value)) for put, value in self.same)
        texts = ((put, columns[place]) for put, place in self.texts)
        numbers = ((put, map(int, columns[place])) for put, place in self.numbers)
        return all_made(self.kind, len(columns[0]), chain(same, texts, numbers))

    def columns(self, lines: Sequence[str]) -> list[tuple[str, ...]] | None:
        """Return the values of each field that varies, in lines of one length.

        ``None`` unless all are of the shape, and have their values in the same places.

        Args:
            lines: of one length.
        """
        first = None if self.match is None else self.match(lines[0])
        if first is None:
            return None
        spans = [first.span(n) for n in range(1, len(self.keys) + 1)]
        # Of two or more, as the itemgetter of one has no tuple: each line has a number and a hash.
        found = list(zip(*map(itemgetter(*(slice(*span) for span in spans)), lines), strict=True))
        starts, stops = [0, *(stop for _, stop in spans)], [start for start, _ in spans]
        between = [repeat(lines[0][n:m]) for n, m in zip(starts, [*stops, None], strict=True)]
        # Put together again around these values, they have to be the same lines.
        columns = [column for both in zip(between, found, strict=False) for column in both]
        again = chain.from_iterable(zip(*columns, between[-1], strict=False))
        if "".join(again) != "".join(lines) or not all(map(_are_formed, self.keys, found)):
            return None
        return found

    def counted(self) -> None:
        """Take note of one more line, and make the pattern when it pays."""
        self.count += 1
        if self.count != _PAYS:
            return
        parts = [re.escape(self.literals[0])]
        for key, after in zip(self.keys, self.literals[1:], strict=True):
            quote = '"' if key in _TEXTS else ""
            parts.append(f'"{key}":{quote}({_VALUES[key]}){quote}')
            parts.append(re.escape(after))
        self.match = re.compile("".join(parts), re.ASCII).fullmatch


def _are_formed(key: str, column: Sequence[str]) -> bool:
    """Return whether values are written as their field's are; they have the length of one that is.

    Args:
        key: name of the field.
        column: its values.
    """
    text, width = "".join(column), len(column[0])
    if key in _HEX:
        return not text.encode().translate(None, b"0123456789abcdef")
    if key in _TEXTS:
        return _TIMES(text) is not None
    leading = "0" in text[::width] and (width > 1 or key in _ABOVE_ZERO)
    return text.isascii() and text.isdecimal() and width <= _DIGITS and not leading
