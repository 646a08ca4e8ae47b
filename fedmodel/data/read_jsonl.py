"""JSON lines: one object for each row."""

import json
from pathlib import Path
from typing import Any

from fedmodel.data.rows import Rows
from fedmodel.data.table import Columns, Table, problem
from fedmodel.errors import DataError

__all__ = ["read_jsonl"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _TwiceError(Exception):
    """A key stands twice in one object."""


def read_jsonl(path: Path, name: str, columns: Columns) -> Rows:
    """Read a file with one JSON object on each line.

    Args:
        path: the file.
        name: what messages call it.
        columns: which keys to read.

    Returns:
        The rows; blank lines are skipped.

    Raises:
        DataError: for the first thing that isn't usable, with its row and line.
    """
    table = Table(name, columns)
    used: list[str] = []
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            body = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            if body.strip():
                place = f"line {number}"
                text = _decoded(table, body, offset + len(line) - len(body), place)
                record = _record(table, text, place)
                if used:
                    table.require(list(record), table.at(len(table) + 1, place))
                else:
                    used = table.open(list(record), table.at(1, place))
                table.add([record[key] for key in used], place)
            offset += len(line)
    return table.rows()


def _decoded(table: Table, line: bytes, offset: int, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise problem(
            table.name,
            table.at(len(table) + 1, place),
            expected="UTF-8",
            got=f"a byte that isn't (0x{line[error.start]:02x} at byte offset "
            f"{offset + error.start})",
            fix="save the file as UTF-8",
        ) from None


def _record(table: Table, line: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line, object_pairs_hook=_unique)
    except _TwiceError:
        raise _malformed(table, place, "a key that stands twice in the same object") from None
    except json.JSONDecodeError as error:
        got = f"malformed JSON ({error.msg}, column {error.colno})"
        raise _malformed(table, place, got) from None
    except (ValueError, RecursionError):
        raise _malformed(table, place, "JSON with too long a number or too deep") from None
    if not isinstance(record, dict):
        raise _malformed(table, place, f"a JSON {type(record).__name__}")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise _TwiceError
    return record


def _malformed(table: Table, place: str, got: str) -> DataError:
    return problem(
        table.name,
        table.at(len(table) + 1, place),
        expected='one JSON object on each line, like {"text": …, "label": …}',
        got=got,
        fix="correct the line, or copy the file again if it was cut off",
    )
