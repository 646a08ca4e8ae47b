"""Sets of labels as files hold them: in one cell, as a list, or as columns of 0 and 1."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedmodel.data.values import MissingError, as_name

__all__ = ["LabelSets"]

_YES = {"1", "1.0", "1,0", "true"}
_NO = {"0", "0.0", "0,0", "false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSets:
    """How a row's labels are written.

    Args:
        flags: labels that have a column of 0 and 1 each; empty where one column holds them all.
        separator: what stands between labels in a cell; ``None`` where a cell is a list.
    """

    flags: tuple[str, ...] = ()
    separator: str | None = None

    @property
    def expected(self) -> str:
        """What a value should be, for messages."""
        if self.flags:
            return "0 or 1"
        if self.separator is None:
            return "a list of labels"
        return f"labels with {self.separator!r} between them"

    def read(self, values: Sequence[object]) -> tuple[str, ...]:
        """Return the labels that a row's values say, sorted, each once; there may be none.

        An empty cell, ``null`` and an empty list are no label. White space around a label isn't
        part of it.

        Args:
            values: of the columns of ``flags`` in their order, or of the one column.

        Raises:
            MissingError: if a column of ``flags`` has nothing.
            ValueError: saying what else was found instead.

        >>> LabelSets(separator=";").read(["b; a;b"]), LabelSets().read([["x"]])
        (('a', 'b'), ('x',))
        >>> LabelSets(flags=("fever", "pain")).read([True, "0"])
        ('fever',)
        """
        if self.flags:
            pairs = zip(self.flags, values, strict=True)
            return tuple(sorted(name for name, value in pairs if _is_set(value)))
        (value,) = values
        return tuple(sorted({_name(part) for part in self._parts(value)}))

    def _parts(self, value: object) -> Sequence[object]:
        if value is None or value == "" or value != value:  # NaN is what some tools write for null
            return ()
        if isinstance(value, list | tuple):
            return value
        if not isinstance(value, str):
            raise ValueError(f"a value of type {type(value).__name__}")
        if self.separator is None:
            raise ValueError(
                "text, without a data.label_separator to tell where a label ends (set it, or name "
                "columns of 0 and 1 with data.labels)"
            )
        return () if value.isspace() else value.split(self.separator)


def _is_set(value: object) -> bool:
    text = str(value).strip().lower()
    if value is None or not text or value != value:
        raise MissingError("nothing")
    if text not in _YES | _NO:
        raise ValueError("something else")  # not shown: it may be another column's text
    return text in _YES


def _name(part: object) -> str:
    try:
        return as_name(part.strip() if isinstance(part, str) else part)
    except MissingError:
        raise ValueError("an empty label among others") from None
