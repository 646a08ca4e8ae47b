"""Values with separators between them, strictly (RFC 4180).

The separator is the header's own: a comma, a semicolon, a tab or a bar, whichever gives the columns
that are wanted. Nothing is made of the values: a decimal comma, a leading zero stay as they are.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fedmodel.data.columns import Columns, problem
from fedmodel.data.headers import repeated
from fedmodel.data.opened import Form, opened
from fedmodel.data.rows import Rows
from fedmodel.data.table import Table
from fedmodel.errors import DataError
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["read_csv"]

# The largest limit that fits a C long everywhere (Windows has 32 bits).
_FIELD_LIMIT = 2**31 - 1
_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_HINT = re.compile(r"\ufeff?\"?sep=(.)\"?\r?\n")  # the first line that some spreadsheets write
_JSON = re.compile(r'\ufeff?\s*(\{\s*"|\[\s*\{)')
_START = 1 << 18  # bytes in which a header ends


def read_csv(
    path: Path,
    name: str,
    columns: Columns,
    form: Form = Form(),  # noqa: B008
    watch: Watch = UNWATCHED,
) -> Rows:
    """Read a CSV file whose first line names the columns.

    Args:
        path: the file; it may be compressed (gzip, bzip2, xz).
        name: what messages call it.
        columns: which columns to read.
        form: how it is written.
        watch: who is told how far it is.

    Returns:
        The rows, values as they stand; blank lines are skipped.

    Raises:
        DataError: for the first thing that isn't usable, with its row and line.
    """
    # A limit of the whole process, so it's only ever raised: another thread may be reading too.
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    table = Table(name, columns)
    with opened(path, name, "a CSV file") as file:
        head = file.read(_START)
    form = form.seen(head)
    encoding = "utf-8-sig" if form.utf8 else str(form.encoding)
    start = head.decode(encoding, "replace")
    if _JSON.match(start):
        raise problem(name, "", expected="a CSV file", got="a file of JSON", fix="set data=jsonl")
    hint = _HINT.match(start)
    start = start[hint.end() :] if hint else start
    separator = form.separator or (hint[1] if hint else _separator(start, columns, path))
    try:
        with opened(path, name, "a CSV file", watch) as file:
            text = io.TextIOWrapper(file, encoding=encoding, newline="")
            if hint:
                text.readline()
            _fill(table, _records(text, table, separator, 1 + bool(hint)), separator)
    except UnicodeError:
        raise _undecodable(path, table, encoding, separator) from None
    return table.rows()


def _separator(start: str, columns: Columns, path: Path) -> str:
    """Return what separates the header's values: the most wanted columns, then the most of all."""
    wanted = [column for _, column in columns.roles()]
    tabs = any(suffix in (".tsv", ".tab") for suffix in path.suffixes)
    best, score = ",", (0, 0, 0)
    for separator in _SEPARATORS:
        try:
            reader = csv.reader(io.StringIO(start, newline=""), delimiter=separator)
            header = next(filter(any, reader), [])
        except csv.Error:
            continue
        named = sum(column in header for column in wanted)
        found = (named, len(header), tabs and separator == "\t")
        if found > score:
            best, score = separator, found
    return best


def _fill(table: Table, records: Iterator[tuple[list[str], int]], separator: str) -> None:
    header, place = next(records, ([], 0))
    if not header:
        return
    header[0] = header[0].removeprefix("\ufeff")  # of an encoding that keeps the mark
    _check_nul(table, header, f"header (line {place})")

    def is_header() -> bool:
        return not repeated(header, (fields for fields, _ in records))

    names = table.open(header, f"line {place}", is_header=is_header)
    used = [header.index(column) for column in names]
    for fields, line in records:
        if len(fields) > len(header) and not any(fields[len(header) :]):
            fields = fields[: len(header)]  # a separator at the end of each row
        if len(fields) != len(header):
            raise problem(
                table.name,
                table.at(len(table) + 1, f"line {line}"),
                expected=f"{len(header)} fields as in the header",
                got=f"{len(fields)}",
                fix=f"quote a value that has a {_mark(separator)} or a line break in it, complete "
                "the row, or set data.separator",
            )
        _check_nul(table, fields, table.at(len(table) + 1, f"line {line}"))
        table.add([fields[i] for i in used], f"line {line}")


def _check_nul(table: Table, fields: list[str], place: str) -> None:
    if any("\0" in field for field in fields):
        raise problem(
            table.name,
            place,
            expected="text",
            got="a NUL byte",
            fix="remove it (the file may be damaged); is it UTF-16? data.encoding=utf-16",
        )


def _mark(separator: str) -> str:
    return _NAMES[separator][:-1] if separator in _NAMES else repr(separator)


def _records(
    file: TextIO, table: Table, separator: str, line: int
) -> Iterator[tuple[list[str], int]]:
    """Yield each record that isn't blank with the line it starts on.

    Spreadsheets end a file with records of nothing but separators; there these are blank too.
    """
    empty: list[tuple[list[str], int]] = []
    reader = csv.reader(file, strict=True, delimiter=separator)
    before, first = line - 1, True
    try:
        for fields in reader:
            if any(fields):
                yield from () if first else empty
                first = False
                yield fields, line
                empty.clear()
            elif fields:
                empty.append((fields, line))
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise _malformed(table, line, str(error), first, separator) from None


def _malformed(table: Table, line: int, reason: str, header: bool, separator: str) -> DataError:
    place = f"header (line {line})" if header else table.at(len(table) + 1, f"line {line}")
    if "unexpected end of data" in reason:
        return problem(
            table.name,
            place,
            expected="a closing quote for the quoted value that starts in this row",
            got="the end of the file",
            fix="close the quote, or copy the file again if it was cut off (a quote inside a "
            'quoted value is written "")',
        )
    return problem(
        table.name,
        place,
        expected=f"values separated by {_NAMES.get(separator, repr(separator))}",
        got=f"a malformed row ({reason})",
        fix='put a value that begins with a quote in quotes, and write a quote inside it as ""',
    )


def _undecodable(path: Path, table: Table, encoding: str, separator: str) -> DataError:
    """Find the byte; the text layer reads ahead, so its own position says nothing."""
    with opened(path, table.name, "a CSV file") as file:
        data = file.read()
    offset = len(data)
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        offset = error.start + (3 if encoding == "utf-8-sig" and data[:3] == b"\xef\xbb\xbf" else 0)
    except UnicodeError:
        offset = 0
    before = data[:offset].decode(encoding, errors="ignore")
    # One more character, so that the row of the byte counts even when it has nothing else.
    text = io.StringIO(before + "x", newline="")
    rows = sum(map(any, csv.reader(text, delimiter=separator)))
    line = f"line {sum(1 for _ in io.StringIO(before + 'x', newline=''))}"
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    known = encoding.removesuffix("-sig").upper()
    return problem(
        table.name,
        table.at(rows - 1, line) if rows > 1 else f"header ({line})",
        expected=known,
        got=f"a byte that isn't (0x{data[offset : offset + 1].hex()} at byte offset {offset})",
        fix="it looks like UTF-16: set data.encoding=utf-16, or save the file as UTF-8"
        if wide
        else "save the file as UTF-8 (in Excel: 'CSV UTF-8'), or name what it is written in: "
        "data.encoding=cp1252 (Windows, Western Europe), utf-16, …",
    )
