"""Words on a console."""

from rich.console import Console

from fedmodel._escape import escaped

__all__ = ["say"]


def say(console: Console, text: str, style: str | None = None, *, wrap: bool = True) -> None:
    """Print a text as it stands: no markup is read in it, and what isn't printable is escaped."""
    console.print(
        escaped(text), style=style, markup=False, highlight=False, emoji=False, soft_wrap=not wrap
    )
