"""Closed rounds: in which of a job's rounds a site has agreed to a sum, once for each."""

from typing import Protocol

from fedmodel.errors import ReplayError

__all__ = ["ClosedInMemory", "Closing", "check_open"]


class Closing(Protocol):
    """What remembers the last round in which a site has signed a set of survivors."""

    def last(self) -> int:
        """Return the last closed round; 0: none."""

    def close(self, round_: int) -> None:
        """Close a round, durably; of several who try at once one succeeds.

        Args:
            round_: of the run.

        Raises:
            ReplayError: when it, or a later one, is closed already.
        """


class ClosedInMemory:
    """Closed rounds that end with the process, for who has no disk.

    Args:
        last: the last closed round; 0: none.
    """

    def __init__(self, last: int = 0) -> None:
        self._last = last

    def __repr__(self) -> str:
        return f"ClosedInMemory({self._last})"

    def last(self) -> int:
        """Return the last closed round."""
        return self._last

    def close(self, round_: int) -> None:
        """Close a round (see :class:`Closing`)."""
        check_open(round_, self._last)
        self._last = round_


def check_open(round_: int, last: int) -> None:
    """Check that a round is after the last closed one.

    Raises:
        ReplayError: when it isn't.
    """
    if round_ <= last:
        raise ReplayError(
            f"this site has agreed to a sum in round {last}, and takes part in no other attempt up "
            "to it; sums over two sets of sites would show who is in one of them only"
        )
