"""Markdown of a model card: code, numbers and tables that nothing in them breaks."""

import re

from fedmodel._escape import escaped

__all__ = ["code", "number", "plain", "table"]

_NAME = re.compile(r"[\w ,'()-]+")


def code(value: object) -> str:
    """Return text as inline code that can't break out of it, nor out of a table."""
    return (
        "`"
        + " ".join(escaped(str(value).replace("`", "'").replace("|", "/"), lines=True).split())
        + "`"
    )


def plain(name: str) -> str:
    """Return a name of ours as it stands; one that isn't made of letters alone, as code."""
    return name if _NAME.fullmatch(name) else code(name)


def number(value: float) -> str:
    """Return a figure with four digits; a whole number as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: list[tuple[str, str]]) -> str:
    """Return rows of names and values."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
