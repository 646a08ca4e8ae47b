"""Comma-separated values, strictly (RFC 4180, UTF-8 with or without a byte order mark)."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fedmodel.data.rows import Rows
from fedmodel.data.table import Columns, Table, problem
from fedmodel.errors import DataError

__all__ = ["read_csv"]

# The largest limit that fits a C long everywhere (Windows has 32 bits).
_FIELD_LIMIT = 2**31 - 1


def read_csv(path: Path, name: str, columns: Columns) -> Rows:
    """Read a CSV file whose first line names the columns.

    Args:
        path: the file.
        name: what messages call it.
        columns: which columns to read.

    Returns:
        The rows, values as they stand; blank lines are skipped.

    Raises:
        DataError: for the first thing that isn't usable, with its row and line.
    """
    # A limit of the whole process, so it's only ever raised: another thread may be reading too.
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    table = Table(name, columns)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            _fill(table, _records(file, table))
    except UnicodeDecodeError:
        raise _not_utf8(path, table) from None
    return table.rows()


def _fill(table: Table, records: Iterator[tuple[list[str], int]]) -> None:
    header, _ = next(records, ([], 0))
    if not header:
        return
    used = [header.index(column) for column in table.open(header, "line 1")]
    for fields, line in records:
        if len(fields) != len(header):
            raise problem(
                table.name,
                table.at(len(table) + 1, f"line {line}"),
                expected=f"{len(header)} fields as in the header",
                got=f"{len(fields)}",
                fix="quote a value that has a comma or a line break in it, or complete the row",
            )
        if any("\0" in field for field in fields):
            raise problem(
                table.name,
                table.at(len(table) + 1, f"line {line}"),
                expected="text",
                got="a NUL byte",
                fix="remove it; the file may be damaged",
            )
        table.add([fields[i] for i in used], f"line {line}")


def _records(file: TextIO, table: Table) -> Iterator[tuple[list[str], int]]:
    """Yield each record that isn't blank with the line it starts on."""
    reader = csv.reader(file, strict=True)
    line, first = 1, True
    try:
        for fields in reader:
            if fields:
                first = False
                yield fields, line
            line = reader.line_num + 1
    except csv.Error as error:
        raise _malformed(table, line, str(error), first) from None


def _malformed(table: Table, line: int, reason: str, header: bool) -> DataError:
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
        expected="comma-separated values",
        got=f"a malformed row ({reason})",
        fix='write a quote inside a quoted value as ""',
    )


def _not_utf8(path: Path, table: Table) -> DataError:
    """Find the byte; the text layer reads ahead, so its own position says nothing."""
    data = path.read_bytes()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        offset = error.start
    else:
        offset = len(data)
    before = data[:offset].decode("utf-8-sig", errors="ignore")
    # One more character, so that the row of the byte counts even when it has nothing else.
    rows = sum(1 for fields in csv.reader(io.StringIO(before + "x", newline="")) if fields)
    line = f"line {sum(1 for _ in io.StringIO(before + 'x', newline=''))}"
    return problem(
        table.name,
        table.at(rows - 1, line) if rows > 1 else f"header ({line})",
        expected="UTF-8",
        got=f"a byte that isn't (0x{data[offset : offset + 1].hex()} at byte offset {offset})",
        fix="save the file as UTF-8 (in Excel: 'CSV UTF-8')",
    )
