"""The terminal that tables and progress are shown on."""

from typing import NoReturn

from rich.console import Console

__all__ = ["Terminal"]


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
