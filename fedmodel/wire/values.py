"""Values of a content's records ↔ plain data that canonical JSON can hold, each in one form.

JSON has neither bytes nor NaN, and whole numbers only below 2**53: so a value is a list of its
kind's name and a text. Long texts and bytes lie in the body, by offset and size.
"""

import re
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from fedmodel.errors import ProtocolError

__all__ = ["INLINE", "NAME", "Find", "Put", "Value", "plain", "value"]

INLINE = 256
"""Bytes of a text, or of bytes, that stand in the header at most."""

NAME = re.compile(r"[!-~]{1,100}")
"""Names of records, and of what is in them: ASCII without blanks."""

Scalar: TypeAlias = bool | int | float | str | bytes
Value: TypeAlias = Scalar | list[Any]
# Bytes that go into the body → where they lie there: offset and size.
Put: TypeAlias = Callable[[bytes], list[int]]
# Offset and size → the bytes in the body.
Find: TypeAlias = Callable[[Any, Any], memoryview]

_WHOLE = re.compile(r"-?[0-9]{1,20}")
_REAL = re.compile(r"[0-9a-f]{16}")
_HEX = re.compile(rf"(?:[0-9a-f]{{2}}){{0,{INLINE}}}")
_LEAST, _LARGEST = -(2**63), 2**64 - 1  # of whole numbers, by Flower's own way of writing


def plain(found: object, put: Put) -> list[Any]:
    """Return a value as plain data.

    Args:
        found: of a record.
        put: puts bytes into the body.

    Raises:
        ProtocolError: for one that no record can hold.
    """
    if isinstance(found, list):
        if any(isinstance(each, list) for each in found):
            raise ProtocolError("a list of lists, which no record holds")
        return ["list", [plain(each, put) for each in found]]
    if isinstance(found, bool):
        return ["bool", bool(found)]
    if isinstance(found, int):
        if not _LEAST <= found <= _LARGEST:
            raise ProtocolError("a whole number of more than 64 bits")
        return ["int", str(int(found))]
    if isinstance(found, float):
        return ["float", struct.pack(">d", found).hex()]  # NaN too keeps all its bits
    if isinstance(found, str):
        return _text(found, put)
    if isinstance(found, bytes):
        return ["bytes", *(put(found) if len(found) > INLINE else [found.hex()])]
    raise ProtocolError(f"a value of type {type(found).__name__}, which no record holds")


def _text(found: str, put: Put) -> list[Any]:
    try:
        data = found.encode()
    except UnicodeEncodeError as error:
        raise ProtocolError("a text with half of a surrogate pair, which isn't Unicode") from error
    return ["str", *(put(data) if len(data) > INLINE else [str(found)])]


def value(found: Any, find: Find, *, inner: bool = False) -> Value:
    """Return the value that plain data stand for.

    It is as strict as safety needs; whether the data are in their one form shows when
    :func:`plain` makes them anew.

    Args:
        found: from outside; anything that JSON can say.
        find: finds what lies in the body.
        inner: it is in a list.

    Raises:
        ProtocolError: when they stand for none.
    """
    match found:
        case ["bool", bool(told)]:
            return told
        case ["int", str(told)] if _WHOLE.fullmatch(told):
            return int(told)
        case ["float", str(told)] if _REAL.fullmatch(told):
            (number,) = struct.unpack(">d", bytes.fromhex(told))
            return float(number)
        case ["str", str(told)]:
            return told
        case ["bytes", str(told)] if _HEX.fullmatch(told):
            return bytes.fromhex(told)
        case ["str", offset, size]:
            return _decoded(find(offset, size))
        case ["bytes", offset, size]:
            return bytes(find(offset, size))
        case ["list", list(told)] if not inner:
            return [value(each, find, inner=True) for each in told]
    raise ProtocolError("a value that isn't one of bool, int, float, str, bytes, or a list of them")


def _decoded(data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("a text that isn't UTF-8") from error
