"""Records of a content ↔ plain data for a payload's header, and the parts of its body."""

from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict

from fedmodel._escape import escaped
from fedmodel.errors import ProtocolError
from fedmodel.wire.arrays import array_of, flat_bytes
from fedmodel.wire.values import NAME, plain, value

__all__ = ["ALIGNED", "LONGEST_TEXTS", "MOST_VALUES", "Reader", "Writer", "malformed"]

ALIGNED = 64
"""Each part of a body begins at a multiple of so many bytes."""

LONGEST_TEXTS = 1 << 23
"""Bytes at most of all the texts, and bytes, that lie in a payload's body; arrays apart."""

MOST_VALUES = 20_000
"""Records and values of a content at most, those of lists too."""

_MOST_DIMENSIONS = 32
_LONGEST_WORD = 100  # characters of the name of a type, or of a format
_KINDS: dict[str, type[ArrayRecord] | type[ConfigRecord] | type[MetricRecord]] = {
    "arrays": ArrayRecord,
    "config": ConfigRecord,
    "metrics": MetricRecord,
}


def malformed(why: str) -> ProtocolError:
    """Return what is raised of a content that can't be written, or a payload that can't be read."""
    return ProtocolError(
        f"a message's content that can't be taken: {why}; install the same fedmodel version "
        "everywhere, and find what stands between"
    )


class _Counter:
    """Counts a content's records and values."""

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def count(self, found: int) -> None:
        """Count some more.

        Raises:
            ProtocolError: when there are too many.
        """
        self._left -= found
        if self._left < 0:
            raise malformed(f"more than {MOST_VALUES} records and values")


class Writer(_Counter):
    """Makes plain data of a content, and the parts of its body.

    Attributes:
        parts: of the body, zeros between them included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes | memoryview] = []
        self._size = self._texts = 0

    def content(self, content: RecordDict | Error) -> dict[str, Any]:
        """Return what stands in the header.

        Raises:
            ProtocolError: for what no header has room for, or no payload tells.
        """
        if isinstance(content, RecordDict):
            return {"records": self._records(content)}
        if not isinstance(content.code, int) or not isinstance(content.reason, str | None):
            raise malformed("an error has a whole number, and a text or none")
        code, reason = self._value("code", content.code), content.reason
        if reason is not None:
            # A path in it may be no Unicode; why there is no answer must be told all the same.
            reason = self._value("reason", reason.encode("utf-8", "backslashreplace").decode())
        return {"error": {"code": code, "reason": reason}}

    def _records(self, content: RecordDict) -> dict[str, Any]:
        self.count(len(content))
        told: dict[str, Any] = {}
        for name in sorted(content):
            record, found = _named(name, "a record"), content[name]
            kind = next((k for k, made in _KINDS.items() if isinstance(found, made)), "")
            self.count(len(found))
            values: Mapping[str, Any] = found
            told[record] = [kind, {key: self._value(key, values[key]) for key in sorted(values)}]
        return told

    def _value(self, key: str, found: Any) -> Any:
        _named(key, "a value")
        if isinstance(found, Array):
            return self._array(found)
        self.count(len(found) if isinstance(found, list) else 0)
        try:
            return plain(found, self._text)
        except ProtocolError as error:
            raise malformed(f"'{key}': {error}") from error

    def _array(self, array: Array) -> dict[str, Any]:
        try:
            offset, size = self._put(flat_bytes(array.data))
        except ValueError as error:
            raise malformed(f"an array whose data are {error}") from error
        shape = [int(each) for each in array.shape]
        return {
            "dtype": array.dtype,
            "shape": shape,
            "stype": array.stype,
            "offset": offset,
            "size": size,
        }

    def _text(self, data: bytes) -> list[int]:
        self._texts += len(data)
        if self._texts > LONGEST_TEXTS:
            raise ProtocolError(f"texts of more than {LONGEST_TEXTS} bytes together")
        return self._put(data)

    def _put(self, data: bytes | memoryview) -> list[int]:
        """Append a part to the body; return its offset and size."""
        if gap := -self._size % ALIGNED:
            self.parts.append(bytes(gap))
        offset, size = self._size + gap, len(data)
        self.parts.append(data)
        self._size = offset + size
        return [offset, size]


class Reader(_Counter):
    """Makes a content of plain data, and of what lies in a body.

    Args:
        body: of the payload; what is made are views of it.
    """

    def __init__(self, body: memoryview) -> None:
        super().__init__()
        self._body = body
        self._at = self._texts = 0

    def content(self, told: Any) -> RecordDict | Error:
        """Return the content, of whose form only so much is known that it is safe.

        Args:
            told: what stands in the header: anything that JSON can say.

        Raises:
            ProtocolError: when there is none in it.
        """
        match told:
            case {"error": {"code": code, "reason": reason}}:
                return self._error(code, reason)
            case {"records": dict(records)}:
                self.count(len(records))
                return RecordDict(
                    {_named(k, "a record"): self._record(v) for k, v in records.items()}
                )
        raise malformed("neither records nor an error")

    def _error(self, code: Any, reason: Any) -> Error:
        number = value(code, self._text)
        text = None if reason is None else value(reason, self._text)
        if type(number) is not int or not isinstance(text, str | None):
            raise malformed("an error has a whole number, and a text or none")
        return Error(number, text)

    def _record(self, told: Any) -> ArrayRecord | ConfigRecord | MetricRecord:
        match told:
            case [str(kind), dict(values)] if kind in _KINDS:
                self.count(len(values))
            case _:
                raise malformed(f"a record that is none of {', '.join(_KINDS)}")
        record: Any = _KINDS[kind]()
        for key, found in values.items():
            try:
                record[_named(key, "a value")] = (
                    self._array(found) if kind == "arrays" else self._value(key, found)
                )
            except TypeError as error:
                raise malformed(f"'{key}': no value of a record of {kind}") from error
        return record  # type: ignore[no-any-return]

    def _value(self, key: str, told: Any) -> Any:
        match told:
            case ["list", list(items)]:
                self.count(len(items))
        try:
            return value(told, self._text)
        except ProtocolError as error:
            raise malformed(f"'{key}': {error}") from error

    def _array(self, told: Any) -> Array:
        match told:
            case {
                "dtype": str(dtype),
                "shape": list(shape),
                "stype": str(stype),
                "offset": offset,
                "size": size,
            } if (
                all(type(each) is int and each >= 0 for each in shape[: _MOST_DIMENSIONS + 1])
                and len(shape) <= _MOST_DIMENSIONS
                and max(len(dtype), len(stype)) <= _LONGEST_WORD
            ):
                return array_of(dtype, tuple(shape), stype, self._find(offset, size))
        raise malformed("an array has dtype, shape, stype, offset and size, and nothing else")

    def _text(self, offset: Any, size: Any) -> memoryview:
        found = self._find(offset, size)
        self._texts += len(found)
        if self._texts > LONGEST_TEXTS:
            raise malformed(f"texts of more than {LONGEST_TEXTS} bytes together")
        return found

    def _find(self, offset: Any, size: Any) -> memoryview:
        """Return the body's next part, if it is where the header says."""
        expected = self._at + -self._at % ALIGNED
        sized = type(offset) is int and type(size) is int and 0 <= size < 1 << 62
        if not sized or offset != expected:
            raise malformed(f"its parts don't lie one after the other (at byte {expected})")
        if offset + size > len(self._body):
            raise malformed(f"a part that ends at byte {offset + size} of {len(self._body)}")
        self._at = offset + size
        return self._body[offset : self._at]


def _named(name: str, what: str) -> str:
    if not NAME.fullmatch(name):
        raise malformed(
            f"{what} named '{escaped(name[:40])}': names have 1 to 100 ASCII characters, no blanks"
        )
    return name
