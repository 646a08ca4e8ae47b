"""Checks of fields that several entries share, and how they write a real number."""

import math
from typing import Any

from fedmodel.errors import ConfigError

__all__ = ["real", "require_counts", "require_reals"]


def real(value: float) -> str:
    """Return a real number as entries write it: text that ``float`` reads exactly."""
    return repr(float(value))


def require_reals(entry: Any, *names: str) -> None:
    """Check that fields are positive real numbers as :func:`real` writes them.

    Raises:
        ConfigError: for anything else.
    """
    for name in names:
        text = getattr(entry, name)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf or repr(value) != text:
            raise ConfigError(f"{name} must be a number > 0 as Python writes it, got {text!r:.80}")


def require_counts(entry: Any, *names: str) -> None:
    """Check that fields aren't negative; they may be ``None``.

    Raises:
        ConfigError: for a negative one.
    """
    for name in names:
        value = getattr(entry, name)
        if value is not None and value < 0:
            raise ConfigError(f"{name} must not be negative, got {value}")
