"""What ``provision`` prints: lines for people, with texts of others escaped."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fedmodel._escape import escaped
from fedmodel.identity.names import grouped
from fedmodel.identity.security_log import SecurityLog

__all__ = ["ask_at_terminal", "command", "facts", "fingerprint", "log_state", "say", "steps"]


def say(text: str = "") -> None:
    """Print a line."""
    print(escaped(text))


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        say(f"  {name:<{width}}  {value}")


def fingerprint(of: str, digits: str) -> None:
    """Print a fingerprint, by itself, in groups of four."""
    say()
    say(f"fingerprint of {of}:")
    say(f"  {grouped(digits)}")


def steps(title: str, lines: Sequence[str]) -> None:
    """Print what comes next."""
    say()
    say(title)
    for number, line in enumerate(lines, start=1):
        say(f"  {number}. {line}")


def command(**keys: str | Path) -> str:
    """Return a command to type, with values quoted for the shell."""
    parts = (f"{key}={value}" for key, value in keys.items())
    return " ".join(["fedmodel", "provision", *map(shlex.quote, parts)])


def log_state(log: SecurityLog) -> str:
    """Return how a security log stands, with what to note down elsewhere, once it has verified.

    Raises:
        LedgerError: naming the first line that isn't right.
    """
    return f"security log: {len(log.rows())} lines in a whole chain; its end is {log.end()[:32]}"


def ask_at_terminal(prompt: str) -> str | None:
    """Return what a person types; ``None`` where nobody is there."""
    if sys.stdin is None or not sys.stdin.isatty() or not sys.stdout.isatty():
        return None
    try:
        return input(f"{prompt} ").strip()
    except EOFError:
        return None
