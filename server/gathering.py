"""Gathering of the sites before a run: who is there, who is awaited, and when it may begin."""

import logging
import time
from collections.abc import Callable, Collection, Iterable

from fedmodel._text import listed
from fedmodel.errors import UnavailableError

__all__ = ["gather"]

logger = logging.getLogger(__name__)

_NAMED = 10  # sites in a line
_POLL = 0.2  # seconds


def gather(
    present: Callable[[], Iterable[str]],
    sites: Collection[str],
    needed: int,
    *,
    wait: float | None,
    grace: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the run may begin: all sites are there; or enough, and no other for a while.

    Args:
        present: names who is connected.
        sites: that are asked to take part.
        needed: so many must be there.
        wait: seconds at most; ``None``: for ever.
        grace: seconds that are waited for others once there are enough.
        clock: seconds.
        sleep: waits so many.

    Raises:
        UnavailableError: when too few have come.
    """
    began = last = clock()
    said: list[str] | None = None
    while True:
        here, now = sorted(set(present()) & set(sites)), clock()
        if here != said:
            said, last = here, now
            _say(here, sites, needed)
        over = wait is not None and now - began >= wait
        if len(here) == len(sites) or (len(here) >= needed and (over or now - last >= grace)):
            return
        if over:
            raise UnavailableError(
                f"{len(here)} of {len(sites)} sites came within wait={wait:g} seconds, {needed} "
                f"are needed; awaited: {listed(sorted(set(sites) - set(here)), _NAMED)}"
            )
        sleep(_POLL)


def _say(here: Collection[str], sites: Collection[str], needed: int) -> None:
    away = sorted(set(sites) - set(here))
    there = f": {listed(list(here), _NAMED)}" if here else ""
    awaited = f"; awaited: {listed(away, _NAMED)}" if away else ""
    logger.info(
        "%d of %d sites are here (%d are needed)%s%s", len(here), len(sites), needed, there, awaited
    )
