"""Rosters that a coordinator goes by: the run's, and the newest that it has taken over."""

import logging
import math
import time
from collections.abc import Callable
from datetime import datetime

from fedmodel.errors import FedmodelError, IdentityError
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.transport.members import Listed, Look

__all__ = ["Rosters"]

logger = logging.getLogger(__name__)

_FRESH_S = 1.0  # for so long the newest roster is the newest, however many ask


class Rosters:
    """What tells who may be here.

    Args:
        run: roster of the run.
        newest: reads the newest one.
        clock: tells the time, UTC.
    """

    def __init__(
        self,
        run: SignedRoster,
        newest: Callable[[], SignedRoster],
        clock: Callable[[], datetime],
    ) -> None:
        self._run = run
        self._read = newest
        self._clock = clock
        self._newest, self._read_at = run, -math.inf

    def newest(self) -> SignedRoster:
        """Return the newest roster. Where the file can't be read, the one read before stays.

        Raises:
            IdentityError: when it isn't good any more.
        """
        now = time.monotonic()
        if now - self._read_at >= _FRESH_S:
            try:
                self._newest = self._read()
            except IdentityError:
                raise
            except (FedmodelError, OSError) as error:
                logger.warning("the newest roster can't be read, the one before stays: %s", error)
            self._read_at = now
        return self._newest

    def check(self, now: datetime) -> None:
        """Check that the newest roster and the run's are good still.

        Args:
            now: the time.

        Raises:
            IdentityError: when one of them isn't.
        """
        for roster in (self.newest(), self._run):
            roster.check_time(now)

    def look(self) -> Look:
        """Return what tells of each site whether it may be here now."""
        now = self._clock()
        try:
            self.check(now)
            return Look(now, Listed(self.newest()))
        except IdentityError as error:
            return Look(now, None, str(error))
