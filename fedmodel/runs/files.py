"""Files of a run folder: replaced whole, read strictly."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fedmodel import _files, config
from fedmodel.errors import ConfigError, RunFolderError

__all__ = ["parse_json", "read_json", "read_record", "to_json", "write_atomic"]

T = TypeVar("T")


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file by ``data``, or leave it as it was.

    Raises:
        RunFolderError: if the disk is full or the folder can't be written.
    """
    try:
        if not path.parent.is_dir():
            _files.make_folder(path.parent)
        _files.write_atomic(path, data)
    except OSError as error:
        raise RunFolderError(
            f"can't write {path}: {error.strerror}; free space or choose another run=…"
        ) from error


def to_json(value: Any) -> bytes:
    """Return readable JSON text as bytes, refusing NaN."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object that a text is.

    Args:
        text: what was read.
        where: the file, and the line if it is one of many; for the message.

    Raises:
        RunFolderError: if it is cut off, has NaN or an infinity, or isn't an object.
    """
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{where} isn't JSON ({error}); restore it from a copy") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{where} isn't a JSON object; restore it from a copy")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} isn't a JSON number")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        RunFolderError: if it is missing or damaged.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise RunFolderError(f"{path} is missing; is {path.parent} a run folder?") from None
    except OSError as error:
        raise RunFolderError(f"{path} can't be read: {error.strerror}") from error
    return parse_json(text, str(path))


def read_record(kind: type[T], mapping: object, schema: str, where: str) -> T:
    """Return a plain mapping as the frozen dataclass that it was written from.

    Args:
        kind: the dataclass; its field ``schema`` is checked before the others.
        mapping: what a JSON file holds.
        schema: the one that this version reads.
        where: the file, for messages.

    Raises:
        RunFolderError: for another schema, an unknown or missing key, or a value of another type.
    """
    if not isinstance(mapping, Mapping):
        raise RunFolderError(f"{where} isn't a JSON object; restore it from a copy")
    if (found := mapping.get("schema")) != schema:
        raise RunFolderError(
            f"{where} has schema {found!r}; this version reads {schema!r}: use the version of "
            "fedmodel that wrote it"
        )
    try:
        record = config.build(kind, mapping)
        _check_as_written(config.to_mapping(record), mapping, "")
    except ConfigError as error:
        raise RunFolderError(f"{where}: {error}; restore it from a copy") from error
    return record


def _check_as_written(read: Any, written: Any, where: str) -> None:
    """Refuse what a person may type and no writer writes: a number as text, a choice as a switch.

    Args:
        read: plain data of what was understood.
        written: plain data of what stands in the file.
        where: dotted path, for the message.
    """
    if isinstance(written, Mapping):
        for key, value in written.items():
            _check_as_written(read[key], value, f"{where}.{key}" if where else key)
    elif isinstance(written, list):
        for number, value in enumerate(written):
            _check_as_written(read[number], value, f"{where}[{number}]")
    elif isinstance(read, str) is not isinstance(written, str):
        raise ConfigError(f"{where} must be {config.field_type(type(read))}, got {written!r}")
