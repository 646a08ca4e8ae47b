"""Lines of a coordinator's ledger, decoded faster where nothing about them is unusual.

A run of a thousand rounds and fifty sites has millions of values in it. A line of plain ASCII and
whole numbers is canonical (RFC 8785) where Python's own encoder, keys sorted, writes the same bytes
again; an entry is what the general decoder would make of it where every key is there and every
value of its type. Any other line goes to the general decoder, which alone says what is wrong.
"""

import json
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeAlias, TypeVar, get_args

from fedmodel.accounting.spends import Kind
from fedmodel.errors import ConfigError
from fedmodel.ledger import coordinator_entries as entries
from fedmodel.ledger.alike import all_made
from fedmodel.ledger.coordinator_entries import (
    SCHEMA,
    CoordinatorEntry,
    Failed,
    FailedKind,
    Given,
)
from fedmodel.ledger.coordinator_lines import decode

__all__ = ["decode_faster"]

T = TypeVar("T")
_Take: TypeAlias = Callable[[Any], Any]

_LONG = re.compile(r"(?<![0-9a-f])[0-9]{16}")
_LONGEST = 1 << 22  # bytes; as those that decode them


class _UnusualError(Exception):
    """What the general decoder is to look at."""


def _float(text: str) -> Any:
    raise _UnusualError


def _int(text: str) -> int:
    if len(text) > 15:
        raise _UnusualError
    return int(text)


def _typed(kind: type[T]) -> Callable[[Any], T]:
    def take(value: Any) -> T:
        if type(value) is not kind:
            raise _UnusualError
        found: T = value
        return found

    return take


def _numbers(value: Any) -> tuple[int, ...]:
    if type(value) is not list or any(type(each) is not int for each in value):
        raise _UnusualError
    return tuple(value)


def _texts(value: Any) -> dict[str, str]:
    if type(value) is not dict or any(type(each) is not str for each in value.values()):
        raise _UnusualError
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise _UnusualError
    return value


def _made(kind: type[T], takes: "dict[str, _Take] | None", value: Any) -> T:
    if takes is None or type(value) is not dict or value.keys() != takes.keys():
        raise _UnusualError
    return kind(**{key: take(value[key]) for key, take in takes.items()})


_text, _whole, _truth = _typed(str), _typed(int), _typed(bool)


def _one_of(*known: str) -> _Take:
    def take(value: Any) -> str:
        if type(value) is not str or value not in known:
            raise _UnusualError
        return value

    return take


_BASIC: dict[str, _Take] = {
    **dict.fromkeys(("schema", "type", "prev", "nonce", "time", "root"), _text),
    **dict.fromkeys(("model", "mean", "digest", "update"), _text),
    **dict.fromkeys(("seq", "round", "attempt", "absent", "member", "entries"), _whole),
    **dict.fromkeys(("finished", "stopped"), _truth),
    **dict.fromkeys(("members", "takers", "survivors"), _numbers),
    **dict.fromkeys(("vectors", "consents"), _texts),
    "manifest": _mapping,
}


def _takes(kind: type[Any], /, **others: _Take) -> dict[str, _Take] | None:
    """Return how to take in each field of a kind; ``None`` where one isn't known here."""
    known = _BASIC | others
    names = [field.name for field in fields(kind)]
    return {name: known[name] for name in names} if known.keys() >= {*names} else None


def _each(kind: type[T], /, **others: _Take) -> Callable[[Any], tuple[T, ...]]:
    takes = _takes(kind, **others)

    def take(value: Any) -> tuple[T, ...]:
        if type(value) is not list or takes is None:
            raise _UnusualError
        return tuple(_made(kind, takes, each) for each in value)

    return take


# What most of a ledger is, and so has a way of its own: what sites have given, as a list of JSON.
_GIVEN = re.compile(
    r'\{"entries":(0|[1-9][0-9]{0,14}),"member":(0|[1-9][0-9]{0,14}),"root":"([0-9a-f]{64})",'
    r'"update":"([0-9a-f]{64}|)"\}'
)
_PUTS = [getattr(Given, name).__set__ for name in ("entries", "member", "root", "update")]


def _given_of(items: str) -> tuple[Given, ...]:
    """Return what sites have given, of the items of its list."""
    found = _GIVEN.findall(items)
    size = sum(len(item) for values in found for item in values)
    # In no item there is such an end and beginning: nothing is beside the items that were found.
    if len(found) - 1 != items.count("},{") or size + _BARE * len(found) - 1 != len(items):
        raise _UnusualError
    entries, members, roots, updates = zip(*found, strict=True)
    columns = (map(int, entries), map(int, members), roots, updates)
    return tuple(all_made(Given, len(found), zip(_PUTS, columns, strict=True)))


_BARE = len('{"entries":,"member":,"root":"","update":""},')


_FAILED_KINDS, _ASKED_KINDS = _one_of(*get_args(FailedKind)), _one_of(*get_args(Kind))
_LISTS: dict[str, _Take] = {"given": _each(Given), "failed": _each(Failed, kind=_FAILED_KINDS)}
_FAST: dict[str, tuple[type[Any], dict[str, _Take] | None]] = {
    "round": (entries.RoundEntry, _takes(entries.RoundEntry, kind=_ASKED_KINDS)),
    "attempt": (entries.AttemptEntry, _takes(entries.AttemptEntry)),
    "unmask": (entries.UnmaskEntry, _takes(entries.UnmaskEntry)),
    "result": (entries.ResultEntry, _takes(entries.ResultEntry, **_LISTS)),
}


def decode_faster(line: bytes) -> CoordinatorEntry:
    """Return the entry of a line, as :func:`fedmodel.ledger.coordinator_lines.decode` does.

    Raises:
        ConfigError: unless the line is, byte for byte, what ``encode`` makes of an entry.
    """
    try:
        return _fast(line)
    except (_UnusualError, ConfigError, ValueError, RecursionError):
        return decode(line)


def _fast(line: bytes) -> CoordinatorEntry:
    if len(line) > _LONGEST or not line.isascii():
        raise _UnusualError
    text, given = line.decode("ascii"), None
    head, named_given, rest = text.partition('"given":[')
    items, _, tail = rest.partition("]")
    if head.startswith('{"absent":') and items:  # a result's: its first field
        given, text = _given_of(items), f"{head}{named_given}]{tail}"
    # To be called for each number takes far longer, and is needed where one may be too long.
    whole = _int if _LONG.search(text) else None
    mapping = json.loads(text, parse_float=_float, parse_int=whole, parse_constant=_float)
    named = _mapping(mapping)
    kind = named.get("type")
    if named.get("schema") != SCHEMA or type(kind) is not str or kind not in _FAST:
        raise _UnusualError
    if json.dumps(mapping, ensure_ascii=False, sort_keys=True, separators=(",", ":")) != text:
        raise _UnusualError
    entry_type, takes = _FAST[kind]
    if given is not None and takes is not None:
        if named.get("given") != []:
            raise _UnusualError
        takes = {**takes, "given": lambda _: given}
    entry: CoordinatorEntry = _made(entry_type, takes, named)
    return entry
