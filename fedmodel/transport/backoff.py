"""Backoff of a link: how long a site waits before it tries to connect again.

After a cut it tries every second or more often for half a minute, for most cuts are short. Then the
waits get longer, up to a minute, and each is drawn anew from nothing to that (full jitter), so that
the sites of a coordinator that comes back don't all come at once. A connection that has lasted
makes the next cut a new one, and so does an end that was told.

Pure: times are what it is told, in seconds of a clock that doesn't go back.
"""

from fedmodel.seeds import Entropy

__all__ = ["EAGER", "LASTED", "LONGEST", "SHORTEST", "Backoff"]

EAGER = 30.0  # seconds from a cut in which no wait is longer than one second
LASTED = 5.0  # seconds after which a connection is one that has lasted
LONGEST = 60.0
SHORTEST = 0.1  # a coordinator that refuses at once isn't asked without end


class Backoff:
    """The waits of one link.

    Args:
        entropy: draws them.
    """

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._opened: float | None = None  # when the connection opened
        self._cut: float | None = None  # when the trouble began
        self._most = 1.0  # the longest wait of now

    def opened(self, now: float) -> None:
        """Take note of a connection that works: both ends have said who they are.

        Args:
            now: the time.
        """
        self._opened = now

    def lost(self, now: float) -> float:
        """Return how many seconds to wait after a connection was lost, or couldn't be made.

        Args:
            now: the time.
        """
        if self._opened is not None and now - self._opened >= LASTED:
            self._cut = None
        self._opened = None
        if self._cut is None:
            self._cut, self._most = now, 1.0
        if now - self._cut >= EAGER:
            self._most = min(2 * self._most, LONGEST)
        return max(SHORTEST, self._most * self._drawn())

    def hinted(self, now: float) -> float:
        """Return how many seconds to wait after a hint that dialling again soon is of use.

        The one there is: the coordinator has told its end. Nobody looks for others, such as that
        an interface came up or the machine woke up: no wait is longer than a minute.

        Args:
            now: the time.
        """
        self._cut, self._most = now, 1.0
        return SHORTEST * (1 + self._drawn())

    def _drawn(self) -> float:
        return int.from_bytes(self._entropy.bytes(6)) / (1 << 48)
