"""JSON: one object for each row, on a line of its own or as an item of one array."""

import codecs
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from fedmodel.data.columns import Columns, problem
from fedmodel.data.headers import dotted
from fedmodel.data.opened import Form, opened
from fedmodel.data.rows import Rows
from fedmodel.data.table import Table
from fedmodel.errors import DataError
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["read_jsonl"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CHUNK = 1 << 16
_KIND = "a file of JSON"
_EXPECTED = 'one JSON object on each line, like {"text": …, "label": …}, or one array of them'


class _TwiceError(Exception):
    """A key stands twice in one object."""


def read_jsonl(
    path: Path,
    name: str,
    columns: Columns,
    form: Form = Form(),  # noqa: B008
    watch: Watch = UNWATCHED,
) -> Rows:
    """Read a file with one JSON object on each line, or one array of objects.

    Args:
        path: the file; it may be compressed (gzip, bzip2, xz).
        name: what messages call it.
        columns: which keys to read; one with dots may lie in an object of the row.
        form: its encoding.
        watch: who is told how far it is.

    Returns:
        The rows; blank lines are skipped.

    Raises:
        DataError: for the first thing that isn't usable, with its row and line.
    """
    table = Table(name, columns)
    with opened(path, name, _KIND, watch) as file:
        form = form.seen(file.read(2))
        file.seek(0)
        rows = _array(file, table, form) if _is_array(file, form) else _lines(file, table, form)
        _fill(table, rows)
    return table.rows()


def _fill(table: Table, rows: Iterator[tuple[dict[str, Any], str]]) -> None:
    used: list[str] = []
    waiting: list[tuple[dict[str, Any], str]] = []  # rows before any that has all keys
    fault: DataError | None = None
    for record, place in rows:
        at = table.at(len(table) + 1, place)
        try:
            if not used:
                used = table.open(list(record), at, leaves=partial(dotted, record))
                for earlier, where in waiting:
                    table.add([earlier.get(key) for key in used], where)
            elif not table.drops and any(key not in record for key in used):
                table.require(record, at)
        except DataError as error:
            fault = fault or error
            if not table.drops:
                fix = ", or set data.missing=drop to leave such rows out" if used else ""
                raise DataError(f"{error}{fix}") from None
        if used:
            table.add([record.get(key) for key in used], place)
        else:
            waiting.append((record, place))
    if fault is not None and not used:
        raise fault


def _is_array(file: BinaryIO, form: Form) -> bool:
    start = file.read(256)
    file.seek(0)
    text = start.decode(form.encoding or "utf-8", "ignore").removeprefix("\ufeff")
    body = text.lstrip()
    return body.startswith("[") and body[1:].lstrip()[:1] in ("{", "]")


def _lines(file: BinaryIO, table: Table, form: Form) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each line's object and its place."""
    offset = 0
    for number, line in enumerate(_bytes(file, table, form), start=1):
        body = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if body.strip():
            place = f"line {number}"
            text = _decoded(table, body, offset + len(line) - len(body), place)
            yield _record(table, text, place), place
        offset += len(line)


def _array(file: BinaryIO, table: Table, form: Form) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each object of an array and its place."""
    body = b"".join(_bytes(file, table, form)).removeprefix(_BYTE_ORDER_MARK)
    items = _parsed(table, _decoded(table, body, 0, "array"), "array")
    for number, item in enumerate(items, start=1):
        place = f"item {number}"
        yield _checked(table, item, place), place


def _bytes(file: BinaryIO, table: Table, form: Form) -> Iterator[bytes]:
    """Yield a file's lines in UTF-8."""
    if form.utf8:
        yield from file
        return
    # No text layer around the file: a reader that stops early would leave it to the collector.
    decoder, rest = codecs.getincrementaldecoder(str(form.encoding))(), ""
    try:
        while chunk := file.read(_CHUNK):
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for line in lines:
                yield _encoded(line + "\n")
        yield _encoded(rest + decoder.decode(b"", final=True))
    except UnicodeError:
        raise problem(
            table.name,
            f"after row {len(table)}",
            expected=f"{form.encoding}",
            got="a byte that isn't",
            fix="set data.encoding to what the file is written in",
        ) from None


def _encoded(line: str) -> bytes:
    return line.removeprefix("\ufeff").encode("utf-8", "surrogatepass")


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
            fix="save the file as UTF-8, or set data.encoding to what it is written in",
        ) from None


def _record(table: Table, line: str, place: str) -> dict[str, Any]:
    return _checked(table, _parsed(table, line, place), place)


def _parsed(table: Table, text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except _TwiceError:
        raise _malformed(table, place, "a key that stands twice in the same object") from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, " if "\n" in text.rstrip() else ""
        got = f"malformed JSON ({error.msg}, {at}column {error.colno})"
        if place == "line 1" and text.lstrip()[:1] not in ("{", "["):
            raise problem(
                table.name,
                place,
                expected=_EXPECTED,
                got="none at all",
                fix="set data=csv if it is a table with a header, or another choice of data",
            ) from None
        raise _malformed(table, place, got) from None
    except (ValueError, RecursionError):
        raise _malformed(table, place, "JSON with too long a number or too deep") from None


def _checked(table: Table, record: Any, place: str) -> dict[str, Any]:
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
        expected=_EXPECTED,
        got=got,
        fix=f"correct the {place.split()[0]}, or copy the file again if it was cut off",
    )
