"""What the parts of a job check themselves with, and how an ε is shown."""

import math

from fedmodel.errors import ConfigError

__all__ = ["require", "show_epsilon"]


def require(condition: bool, message: str) -> None:
    """Refuse a configuration unless a condition holds.

    Raises:
        ConfigError: with the message.
    """
    if not condition:
        raise ConfigError(message)


def show_epsilon(epsilon: float) -> str:
    """Return an ε with three decimals, rounded up: it is an upper bound.

    >>> show_epsilon(7.9951)
    '7.996'
    """
    return f"{math.ceil(epsilon * 1000) / 1000:.3f}"
