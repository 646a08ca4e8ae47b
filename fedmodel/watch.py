"""Watch over work that takes long: what is going on, and how far it is.

It is a value that is handed down to whoever does the work, so two runs of one process don't mix.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["TRAINING", "UNWATCHED", "Unwatched", "Watch"]

TRAINING = "training"
"""The stage whose parts are local steps."""


class Watch(Protocol):
    """Who is told what is going on (a progress display).

    Calls come from inside loops: they must be cheap, and must not raise.
    """

    def of(self, party: str) -> "Watch":
        """Return what is told of the work of one party of several."""

    def stage(self, what: str, total: int | None = None) -> AbstractContextManager[None]:
        """Within this context something is done; a stage may have stages in it.

        Args:
            what: is done, in words.
            total: parts that it has; ``None``: not known.
        """

    def advance(self, count: int = 1) -> None:
        """So many more parts of the innermost stage are done."""


class Unwatched:
    """Nobody is told."""

    def of(self, party: str) -> "Unwatched":
        """Return the same."""
        return self

    @contextmanager
    def stage(self, what: str, total: int | None = None) -> Iterator[None]:
        """Tell nobody."""
        yield

    def advance(self, count: int = 1) -> None:
        """Tell nobody."""


UNWATCHED = Unwatched()
