"""The terminal that tables and progress are shown on, and words on it."""

from typing import NoReturn

from rich.console import Console

from fedmodel._escape import escaped

__all__ = ["Terminal", "say"]


class Terminal(Console):
    """A console on which a name such as ``:x:`` stays a name, and whose reader may go away.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(emoji=False, quiet=quiet)

    def on_broken_pipe(self) -> NoReturn:
        """Raise what the system has raised, where rich would end the process without a word."""
        self.quiet = True
        raise BrokenPipeError


def say(console: Console, text: str, style: str | None = None, *, wrap: bool = True) -> None:
    """Print a text as it stands: no markup is read in it, and what isn't printable is escaped."""
    console.print(
        escaped(text), style=style, markup=False, highlight=False, emoji=False, soft_wrap=not wrap
    )
