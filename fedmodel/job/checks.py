"""What the parts of a job check themselves with."""

from fedmodel.errors import ConfigError

__all__ = ["require"]


def require(condition: bool, message: str) -> None:
    """Refuse a configuration unless a condition holds.

    Raises:
        ConfigError: with the message.
    """
    if not condition:
        raise ConfigError(message)
