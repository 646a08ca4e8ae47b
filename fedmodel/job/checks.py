"""Checks that the parts of a job make of themselves."""

from fedmodel.errors import ConfigError

__all__ = ["require"]


def require(condition: bool, message: str) -> None:
    """Refuse a configuration unless a condition holds.

    Raises:
        ConfigError: with the message.
    """
    if not condition:
        raise ConfigError(message)
