"""Notes of who was refused and why: to the log and its keeper, too few to fill a disk."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from fedmodel._escape import escaped

__all__ = ["Notes", "Told"]

logger = logging.getLogger(__name__)

Told: TypeAlias = Callable[[str, str, str], None]

_WINDOW_S = 60.0
_MOST = 10  # notes of one in that time
_KNOWN = 1024  # of whom that is counted


@dataclass(slots=True)
class _Recent:
    """What was noted of one in a window of time."""

    since: float
    count: int = 0
    left_out: int = 0


class Notes:
    """What is noted at a port.

    Args:
        told: is told of each: event, who, and why.
        clock: seconds of a clock that doesn't go back.
    """

    def __init__(self, told: Told, clock: Callable[[], float] = time.monotonic) -> None:
        self._told = told
        self._clock = clock
        self._recent: dict[str, _Recent] = {}

    def add(self, event: str, who: str, where: str, why: str) -> None:
        """Note something, unless there was too much of the same one of late: then it is counted.

        Args:
            event: what was done.
            who: by the certificate.
            where: the address that it came from.
            why: the reason.
        """
        recent = self._of(who)
        if recent.count >= _MOST:
            recent.left_out += 1
            return
        recent.count += 1
        said = why
        if recent.left_out:
            said = f"{why} ({recent.left_out} more since the last of these)"
            recent.left_out = 0
        if recent.count == _MOST:
            said = f"{said} (more of it is only counted now, for a minute)"
        logger.warning("%s: %s at %s: %s", event, escaped(who), escaped(where), escaped(said))
        try:
            # Without the port, which is another one each time: what is the same is told the same.
            self._told(event, escaped(f"{who} at {where.rpartition(':')[0]}"), why)
        except Exception as error:
            # Whatever becomes of a note: nobody is let in by it, or kept out.
            logger.error("a refusal can't be written down: %s: %s", type(error).__name__, error)

    def _of(self, who: str) -> _Recent:
        now = self._clock()
        known = self._recent.get(who)
        if known is None or now - known.since >= _WINDOW_S:
            # The latest is the last: whoever is let go of is the one that was quiet for longest.
            left_out = 0 if known is None else known.left_out
            self._recent.pop(who, None)
            self._recent[who] = known = _Recent(now, left_out=left_out)
            if len(self._recent) > _KNOWN:
                del self._recent[next(iter(self._recent))]
        return known
