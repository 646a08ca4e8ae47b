"""Lines of a ledger: an entry's one way of being written (canonical JSON, RFC 8785).

A line is read by its schema and its type. One ledger may hold lines of several schemas: a file that
an earlier version has begun goes on in today's schema.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.ledger import schema_2 as two
from fedmodel.ledger import schema_3 as three
from fedmodel.ledger.entries import (
    SCHEMA,
    AbortEntry,
    DatasetEntry,
    Entry,
    GiveBackEntry,
    OpenEntry,
    OutcomeEntry,
    RepeatEntry,
    ReserveEntry,
    SpendEntry,
    TornEntry,
)

__all__ = ["decode", "encode", "of_a_newer_version"]

_TWO, _THREE = "fedmodel.ledger/2", "fedmodel.ledger/3"
_LONGEST = 1 << 20  # bytes; the longest that was ever written has a few thousand


def _same(mapping: dict[str, Any]) -> dict[str, Any]:
    return mapping


@dataclass(frozen=True, slots=True)
class _Form:
    """How one type of line in one schema becomes an entry, and is written again."""

    entry: type[Entry]
    read: Callable[[dict[str, Any]], dict[str, Any]] = _same
    write: Callable[[dict[str, Any]], dict[str, Any]] = _same


_FORMS: dict[tuple[str, str], _Form] = {
    (SCHEMA, "open"): _Form(OpenEntry),
    (SCHEMA, "dataset"): _Form(DatasetEntry),
    (SCHEMA, "reserve"): _Form(ReserveEntry),
    (SCHEMA, "spend"): _Form(SpendEntry),
    (SCHEMA, "repeat"): _Form(RepeatEntry),
    (SCHEMA, "outcome"): _Form(OutcomeEntry),
    (SCHEMA, "give-back"): _Form(GiveBackEntry),
    (SCHEMA, "abort"): _Form(AbortEntry),
    (SCHEMA, "torn"): _Form(TornEntry),
    (_THREE, "open"): _Form(OpenEntry),
    (_THREE, "dataset"): _Form(DatasetEntry),
    (_THREE, "reserve"): _Form(ReserveEntry, write=three.write),
    (_THREE, "spend"): _Form(SpendEntry, write=three.write),
    (_THREE, "repeat"): _Form(RepeatEntry, write=three.write),
    (_THREE, "give-back"): _Form(GiveBackEntry, write=three.write),
    (_THREE, "abort"): _Form(AbortEntry, write=three.write),
    (_THREE, "torn"): _Form(TornEntry),
    (_TWO, "open"): _Form(OpenEntry),
    (_TWO, "dataset"): _Form(DatasetEntry),
    (_TWO, "reserve"): _Form(ReserveEntry, two.read_reserve, two.write_steps),
    (_TWO, "spend"): _Form(SpendEntry, two.read_spend, two.write_steps),
    (_TWO, "release"): _Form(GiveBackEntry, two.read_release, two.write_release),
    (_TWO, "abort"): _Form(AbortEntry, write=three.write),
    (_TWO, "torn"): _Form(TornEntry),
}
_WRITE = {(schema, form.entry): form.write for (schema, _), form in _FORMS.items()}


def encode(entry: Entry) -> bytes:
    """Return an entry's line in the schema that it names, without its newline.

    Raises:
        ConfigError: when it has none (text that isn't valid Unicode, an integer of 2**53 or more).
    """
    write = _WRITE[entry.schema, type(entry)]
    try:
        # What is written as it is needn't become a mapping twice.
        line = config.canonical(entry if write is _same else write(config.to_mapping(entry)))
    except ValueError as error:
        raise ConfigError(f"no canonical JSON form: {error}") from error
    _check_size(line)  # what can't be read later isn't written
    return line


def decode(line: bytes) -> Entry:
    """Return the entry of a line.

    Raises:
        FedmodelError: unless the line is, byte for byte, what :func:`encode` makes of an entry.
    """
    _check_size(line)
    try:
        mapping = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError("it isn't JSON") from error
    form = _form(mapping)
    entry: Entry = config.build(form.entry, form.read(mapping))
    if encode(entry) != line:
        raise ConfigError("it isn't in canonical form (RFC 8785)")
    return entry


def _check_size(line: bytes) -> None:
    if len(line) > _LONGEST:
        raise ConfigError(f"it has {len(line)} bytes, and an entry at most {_LONGEST}")


def _form(mapping: Any) -> _Form:
    """Return how to read a line.

    Raises:
        ConfigError: naming its schema and type, when they aren't known.
    """
    named = mapping if isinstance(mapping, dict) else {}
    schema, type_ = named.get("schema"), named.get("type")
    if isinstance(schema, str) and isinstance(type_, str) and (schema, type_) in _FORMS:
        return _FORMS[schema, type_]
    if any(schema == known for known, _ in _FORMS):
        types = [type_ for known, type_ in _FORMS if known == schema]
        raise ConfigError(f"expected an entry of type {' or '.join(types)}, got {type_!s:.40}")
    from importlib.metadata import version  # slow to import, and seldom needed

    raise ConfigError(
        f"its schema is {schema!s:.40} and its type {type_!s:.40}; fedmodel {version('fedmodel')} "
        f"reads {' and '.join(dict.fromkeys(known for known, _ in _FORMS))}. "
        + _advice(str(schema))
    )


def of_a_newer_version(line: bytes) -> bool:
    """Return whether a line names a schema that is yet to come here."""
    try:
        mapping = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(mapping, dict) and _is_newer(str(mapping.get("schema")))


def _is_newer(schema: str) -> bool:
    name, _, number = schema.rpartition("/")
    return name == "fedmodel.ledger" and number.isdecimal() and int(number[:9]) > 4


def _advice(schema: str) -> str:
    if _is_newer(schema):
        return (
            "A newer fedmodel has written it: install that one, or a newer one, here; nothing is "
            "spent from a ledger that can't be read"
        )
    if schema == "fedmodel.ledger/1":
        return (
            "It is from before the first release and can't be continued; keep the file, and read "
            "it with the checkout that wrote it"
        )
    return "It isn't a ledger's line; restore the ledger from a copy"
