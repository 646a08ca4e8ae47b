"""The roster that a running site goes by: the newest that its operator has taken over."""

import logging
import os

from fedmodel.errors import ConfigError
from fedmodel.identity.home import PartyHome
from fedmodel.identity.signed_roster import SignedRoster

__all__ = ["CurrentRoster"]

logger = logging.getLogger(__name__)


class CurrentRoster:
    """A site's roster, read again whenever its file has changed (``fedmodel provision roster=…``).

    Args:
        home: the site's folder.
    """

    def __init__(self, home: PartyHome) -> None:
        self._home = home
        self._seen: tuple[int, ...] | None = None
        self._roster: SignedRoster | None = None

    def read(self) -> SignedRoster:
        """Return the roster to go by now.

        Raises:
            ConfigError: where there is none.
            IdentityError: when the one that is there can't be relied on; the one before isn't gone
                back to, for it may list who has been revoked since.
        """
        now = self._stamp()
        if self._roster is not None and now == self._seen:
            return self._roster
        before, self._roster = self._roster, None
        roster = self._home.current_roster()
        if before is not None and before.version != roster.version:
            changes = "; ".join(roster.changes_since(before)) or "nobody else is on it"
            logger.info("version %d of the roster is taken: %s", roster.version, changes)
        self._roster, self._seen = roster, now
        return roster

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._home.roster_path)
        except OSError as error:
            raise ConfigError(
                f"{self._home.roster_path} can't be read: {error.strerror}; take the consortium's "
                "roster over"
            ) from error
        return found.st_mtime_ns, found.st_size, found.st_ino
