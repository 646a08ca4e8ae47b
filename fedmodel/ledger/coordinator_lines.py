"""Lines of a coordinator's ledger, and what they add up to: canonical JSON (RFC 8785), one each."""

import json
from typing import Any, get_args

from fedmodel import config
from fedmodel.errors import ConfigError, LedgerError
from fedmodel.ledger import coordinator_entries as entries
from fedmodel.ledger.coordinator_entries import SCHEMA, CoordinatorEntry, RunEntry, Schema
from fedmodel.ledger.form import Form

__all__ = ["FORM", "CoordinatorBook", "decode", "encode", "of_a_newer_version"]

_LONGEST = 1 << 22  # bytes; a manifest of 10,000 sites has some 700 kB
_SCHEMAS: tuple[Schema, ...] = get_args(Schema)  # from the oldest
_TYPES: dict[str, type[CoordinatorEntry]] = {
    "run": entries.RunEntry,
    "start": entries.StartEntry,
    "joining": entries.JoiningEntry,
    "round": entries.RoundEntry,
    "attempt": entries.AttemptEntry,
    "unmask": entries.UnmaskEntry,
    "result": entries.ResultEntry,
    "evaluation": entries.EvaluationEntry,
    "end": entries.EndEntry,
    "torn": entries.CoordinatorTornEntry,
}


class CoordinatorBook:
    """What is known after some entries: that there is one beginning."""

    def __init__(self) -> None:
        self.opened: RunEntry | None = None
        self._schema = _SCHEMAS[0]  # of the newest entry

    def check(self, entry: CoordinatorEntry) -> None:
        """Check that an entry can stand where it does.

        Raises:
            LedgerError: for a second beginning, anything before the first, or a line of an older
                schema below a newer one.
        """
        if _SCHEMAS.index(entry.schema) < _SCHEMAS.index(self._schema):
            raise LedgerError(
                f"a line of {entry.schema} can't follow one of {self._schema}: no version of "
                "fedmodel writes that"
            )
        if entry.type != "torn" and (entry.type == "run") == (self.opened is not None):
            raise LedgerError(
                "a coordinator's ledger has one entry 'run', its first, "
                f"got '{entry.type}' {'after' if self.opened else 'before'} it"
            )

    def count(self, entry: CoordinatorEntry) -> None:
        """Take in an entry that was checked."""
        self._schema = entry.schema
        if isinstance(entry, RunEntry):
            self.opened = entry


def encode(entry: CoordinatorEntry) -> bytes:
    """Return an entry's line in the schema that it names, without its newline.

    Raises:
        ConfigError: when it has none, or one that is too long to be read.
    """
    newest = entry.schema == SCHEMA
    return _sized(config.canonical(entry if newest else _first(config.to_mapping(entry))))


def _first(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a line of ``fedmodel.coordinator/1``: it doesn't say what a site gave."""
    given = {
        name: [{key: value for key, value in each.items() if key != "update"} for each in found]
        for name, found in entry.items()
        if name in ("given", "told")
    }
    return {**entry, **given}


def decode(line: bytes) -> CoordinatorEntry:
    """Return the entry of a line.

    Raises:
        ConfigError: unless the line is, byte for byte, what :func:`encode` makes of an entry.
    """
    made = _built(config.parsed(_sized(line)))
    if encode(made) != line:
        raise ConfigError("it isn't in canonical JSON (RFC 8785)")
    return made


def of_a_newer_version(line: bytes) -> bool:
    """Return whether a line names a schema that is yet to come here."""
    try:
        mapping = json.loads(line)
    except (ValueError, RecursionError):
        return False
    schema = str(mapping.get("schema")) if isinstance(mapping, dict) else ""
    name, _, number = schema.rpartition("/")
    known = int(SCHEMA.rpartition("/")[2])
    return name == "fedmodel.coordinator" and number.isdecimal() and int(number[:9]) > known


def _built(mapping: Any) -> CoordinatorEntry:
    named = mapping if isinstance(mapping, dict) else {}
    type_ = named.get("type")
    if named.get("schema") not in _SCHEMAS:
        raise ConfigError(
            f"its schema is {named.get('schema')!s:.40}, expected {' or '.join(_SCHEMAS)}: it "
            "isn't a coordinator's ledger, or a newer fedmodel has written it; install that one"
        )
    if not isinstance(type_, str) or type_ not in _TYPES:
        raise ConfigError(f"expected an entry of type {' or '.join(_TYPES)}, got {type_!s:.40}")
    return config.build(_TYPES[type_], named)


def _sized(line: bytes) -> bytes:
    if len(line) > _LONGEST:
        raise ConfigError(f"it has {len(line)} bytes, and an entry at most {_LONGEST}")
    return line


FORM: Form[CoordinatorEntry, CoordinatorBook] = Form(
    encode=encode, decode=decode, torn=entries.CoordinatorTornEntry.of, book=CoordinatorBook
)
