"""Workbooks of Excel and LibreOffice, one sheet."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmodel.data.columns import Columns, problem
from fedmodel.data.headers import repeated
from fedmodel.data.opened import reading
from fedmodel.data.rows import Rows
from fedmodel.data.table import Table
from fedmodel.errors import MissingExtraError
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["read_excel"]

_EXACT = 10**15  # a spreadsheet keeps 15 digits of a number

logger = logging.getLogger(__name__)


def read_excel(
    path: Path,
    name: str,
    columns: Columns,
    sheet: str | None = None,
    watch: Watch = UNWATCHED,
) -> Rows:
    """Read a sheet whose first row that isn't blank names the columns.

    A number that is whole becomes text without a point: in a spreadsheet all numbers are alike.

    Args:
        path: the workbook (.xlsx, .xls, .xlsb, .ods).
        name: what messages call it.
        columns: which columns to read.
        sheet: its name; ``None``: the first one that has a value.
        watch: who is told that it is read.

    Returns:
        The rows; blank ones before and after them are skipped.

    Raises:
        DataError: for the first thing that isn't usable, with its row.
        MissingExtraError: without the library that reads workbooks.
    """
    try:
        import python_calamine
    except ImportError:
        raise MissingExtraError("data=excel", "excel") from None

    fault = ""
    try:
        with (
            reading(watch, name),
            python_calamine.load_workbook(str(path)) as book,
        ):
            sheets = {
                title: book.get_sheet_by_name(title).to_python() for title in book.sheet_names
            }
    except python_calamine.PasswordError:
        fault = "one with a password"
    except OSError:
        raise
    except BaseException as error:  # a panic of the library below isn't an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        fault = "one that is damaged, cut off or of another format"
    if fault:
        raise problem(
            name,
            "",
            expected="a whole workbook",
            got=fault,
            fix="save it again without a password, or as 'CSV UTF-8' with data=csv",
        )
    table = Table(f"{name}[{(chosen := _chosen(sheets, sheet, name))}]", columns)
    _fill(table, sheets.get(chosen, []))
    return table.rows()


def _chosen(sheets: dict[str, list[list[Any]]], sheet: str | None, name: str) -> str:
    filled = [title for title, rows in sheets.items() if any(map(_filled, rows))]
    if sheet is not None:
        if sheet not in sheets:
            raise problem(
                name,
                "",
                expected=f"a sheet '{sheet}'",
                got=f"the sheets: {', '.join(sheets)}",
                fix="set data.sheet to one of them",
            )
        return sheet
    if len(filled) > 1:
        logger.warning(
            "%s: sheet '%s' is read; there are values in %s too (data.sheet=NAME reads another)",
            name, filled[0], ", ".join(f"'{title}'" for title in filled[1:]),
        )  # fmt: skip
    return filled[0] if filled else next(iter(sheets), "")


def _fill(table: Table, rows: Sequence[Sequence[Any]]) -> None:
    numbered = list(enumerate(rows, start=1))
    filled = [i for i, row in enumerate(rows) if _filled(row)]
    if not filled:
        return
    (number, first), *rest = numbered[filled[0] : filled[-1] + 1]
    header = ["" if value is None else str(value).strip() for value in first]

    def is_header() -> bool:
        return not repeated(header, ([str(value) for value in row] for _, row in rest))

    names = [column for column in header if column]
    found = table.open(names, f"row {number} of the sheet", is_header=is_header)
    used = [header.index(column) for column in found]
    for number, row in rest:
        place = f"row {number} of the sheet"
        table.add([_cell(row[i], place, table) for i in used], place)


def _filled(row: Sequence[Any]) -> bool:
    return any(value is not None and value != "" for value in row)


def _cell(value: Any, place: str, table: Table) -> object:
    if not isinstance(value, float) or not value.is_integer():
        return value
    if abs(value) >= _EXACT:
        raise problem(
            table.name,
            place,
            expected="numbers of at most 15 digits, for a spreadsheet keeps no more of them",
            got="a longer one",
            fix="keep long identifiers as text in the workbook",
        )
    return int(value)
