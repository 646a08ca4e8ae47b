"""Lines that are like one before: a ledger has thousands that differ in their numbers and hashes.

Canonical JSON has one way of writing each value, so a line is an entry's own, byte for byte, when
it is another such line but for values of the fields that differ from line to line, each written
in its own canonical form. A name in quotes followed by a colon can't stand inside a string, where
quotes are escaped, and no part of an entry has such fields but the entry itself.

Such lines follow one another in the same order, round after round and site after site: what came
after a line before is tried first, as one pattern, once it has come so often that it pays to make.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from fedmodel.ledger.entries import Entry
from fedmodel.ledger.lines import decode

__all__ = ["Decoder"]

# Of no entries of the coordinator's ledger there is no root: such a line has another shape.
_VARIES = re.compile(
    rb'"(attempt|coordinator_entries(?!":0)|coordinator_root|manifest|model|nonce|of|prev|'
    rb'reservation|round|seq|time|update)":'
    rb'("(?:[0-9a-f]{32}|[0-9a-f]{64}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"'
    rb"|0|[1-9][0-9]{0,14})(?=[,}])"
)
_HASH = r'"([0-9a-f]{64})"'
_TEXTS = {
    "coordinator_root": _HASH,
    "manifest": _HASH,
    "model": _HASH,
    "nonce": r'"([0-9a-f]{32})"',
    "prev": _HASH,
    "time": r'"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"',
    "update": _HASH,
}
_ABOVE_ZERO = ("coordinator_entries",)
_MOST = 65_536  # kinds of line to remember
_ALIKE = ("dataset", "spend", "repeat", "outcome")  # plain data that a job may be isn't in them
_PAYS = 64  # lines of a kind from which on it pays to make their pattern

_Shape: TypeAlias = tuple[bytes, ...]
_Put: TypeAlias = Callable[[Any, Any], None]


@dataclass(slots=True, eq=False)
class _Seen:
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
    then: "_Seen | None" = None

    def filled(self, values: Sequence[str]) -> Any:
        """Return the entry of a shape with such values, each in the form of its field's."""
        made = object.__new__(self.kind)
        for put, value in self.same:
            put(made, value)
        for put, place in self.texts:
            put(made, values[place])
        for put, place in self.numbers:
            put(made, int(values[place]))
        return made

    def counted(self) -> None:
        """Take note of one more line, and make the pattern when it pays."""
        self.count += 1
        if self.count != _PAYS:
            return
        parts = [re.escape(self.literals[0])]
        for key, after in zip(self.keys, self.literals[1:], strict=True):
            parts.append(f'"{key}":{_form(key)}')
            parts.append(re.escape(after))
        self.match = re.compile("".join(parts), re.ASCII).fullmatch


class Decoder:
    """Decodes lines as :func:`fedmodel.ledger.lines.decode` does, those like others faster."""

    def __init__(self) -> None:
        self._seen: dict[_Shape, _Seen] = {}
        self._last: _Seen | None = None

    def decode(self, line: bytes) -> Entry:
        """Return the entry of a line.

        Raises:
            FedmodelError: unless the line is, byte for byte, what ``encode`` makes of an entry.
        """
        guess = None if self._last is None else self._last.then
        found = None
        if guess is not None and guess.match is not None and line.isascii():
            found = guess.match(line.decode("ascii"))
        if guess is not None and found is not None:
            self._last = guess
            expected: Entry = guess.filled(found.groups())
            return expected
        return self._by_shape(line)

    def _by_shape(self, line: bytes) -> Entry:
        pieces = _VARIES.split(line)
        shape = (*pieces[::3], *pieces[1::3])
        seen = self._seen.get(shape)
        values = [value.strip(b'"').decode() for value in pieces[2::3]]
        made: Entry | None = None
        if seen is not None and _fit(seen.keys, pieces[2::3]):
            made = seen.filled(values)
        if made is None:
            made = decode(line)
            if seen is None and made.type in _ALIKE and len(self._seen) < _MOST:
                seen = self._seen[shape] = _remembered(made, pieces)
        if seen is not None:
            seen.counted()
        if self._last is not None:
            self._last.then = seen
        self._last = seen
        return made


def _form(key: str) -> str:
    if key in _ABOVE_ZERO:
        return "([1-9][0-9]{0,14})"
    return _TEXTS.get(key, "(0|[1-9][0-9]{0,14})")


def _fit(keys: Sequence[str], values: Sequence[bytes]) -> bool:
    """Return whether each value is written as its field's are."""
    return all(
        _FORMS[key].fullmatch(value) is not None for key, value in zip(keys, values, strict=True)
    )


_NAMES = (
    *("attempt", "coordinator_entries", "of", "reservation", "round", "seq"),
    *_TEXTS,
)
_FORMS = {key: re.compile(_form(key).encode()) for key in _NAMES}


def _remembered(entry: Entry, pieces: Sequence[bytes]) -> _Seen:
    keys = [key.decode() for key in pieces[1::3]]
    kind = type(entry)
    puts = [(key, getattr(kind, key).__set__) for key in keys]
    names = [field.name for field in fields(entry) if field.name not in keys]
    return _Seen(
        kind=kind,
        same=tuple((getattr(kind, name).__set__, getattr(entry, name)) for name in names),
        numbers=tuple((put, n) for n, (key, put) in enumerate(puts) if key not in _TEXTS),
        texts=tuple((put, n) for n, (key, put) in enumerate(puts) if key in _TEXTS),
        keys=tuple(keys),
        literals=tuple(piece.decode() for piece in pieces[::3]),
    )
