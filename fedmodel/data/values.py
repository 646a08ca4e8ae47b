"""Values as texts: one conversion for all readers, whatever a file's own types are.

What a CSV file writes as a text, Parquet may hold as a number or a Boolean; the same rows are to
give the same rows through every door. So a number becomes the text that it is written as, and an
identifier that is text already stays as it is: ``01`` and ``1`` are two.
"""

from collections.abc import Sequence
from datetime import date, time
from decimal import Decimal

__all__ = ["MissingError", "as_name", "as_text", "class_name"]


class MissingError(ValueError):
    """There is no value: an empty cell, null or NaN."""


def as_text(value: object) -> str:
    """Return a value as the text that stands for it in a CSV file.

    Args:
        value: text, a number or a Boolean.

    Raises:
        MissingError: if there is none.
        ValueError: for anything else; each says what was found, and never shows it.

    >>> as_text("01"), as_text(7), as_text(True), as_text(0.5)
    ('01', '7', 'True', '0.5')
    """
    if type(value) is str:
        return _checked(value)
    # NaN is the only value that differs from itself; it stands for "missing" in most tools.
    if value is None or (isinstance(value, float | Decimal) and value != value):
        raise MissingError("nothing (null or NaN)")
    if isinstance(value, str):
        return _checked(value)
    if isinstance(value, float | Decimal) and not _is_finite(value):
        raise ValueError("an infinite number")
    if isinstance(value, Decimal):
        return f"{value:f}"
    if type(value) in (bool, int, float):
        return str(value)
    if isinstance(value, date | time):
        raise ValueError("a date or a time")
    raise ValueError(f"a value of type {type(value).__name__}")


def as_name(value: object) -> str:
    """Return a value as the name of a class: a Boolean has one spelling, whoever wrote it.

    Raises:
        MissingError: if there is none.
        ValueError: for anything that names nothing.

    >>> as_name("TRUE"), as_name(True), as_name("true-ish")
    ('True', 'True', 'true-ish')
    """
    text = as_text(value)
    return text.capitalize() if text.lower() in ("true", "false") else text


def class_name(value: object, names: Sequence[object] | None) -> object:
    """Return what a value, or each in a list, is called in a column of numbers with names.

    Args:
        value: of a row.
        names: of the numbers from 0; ``None``: the column has no names.

    Returns:
        The name; ``None`` for a number that has none (-1 stands for "missing").
    """
    if names is None:
        return value
    if isinstance(value, list | tuple):
        return [class_name(part, names) for part in value]
    if isinstance(value, str):  # a file that is text has the name, or the number as text
        known = {str(name) for name in names}
        if value in known or not (value.isascii() and value.isdigit()):
            return value
        value = int(value) if len(value) < 10 else -1
    if type(value) is not int:
        return value
    return names[value] if 0 <= value < len(names) else None


def _checked(text: str) -> str:
    if not text:
        raise MissingError("an empty value")
    if text.isspace():
        raise MissingError("only white space")
    if "\0" in text:
        raise ValueError("a NUL byte")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair (not a character)") from None
    return text


def _is_finite(value: float | Decimal) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else abs(value) != float("inf")
