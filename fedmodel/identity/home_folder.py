"""What the folders of a party and of a consortium have alike: a log, a mark, and keys."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from fedmodel.identity.keyfile import is_sealed
from fedmodel.identity.security_log import SecurityLog
from fedmodel.identity.validity import utc_now

__all__ = ["HomeFolder"]


class HomeFolder:
    """A folder of identities.

    Args:
        folder: where it is, or will be.
        clock: tells the time.
    """

    _mark: ClassVar[str]
    """File that is there once the folder is whole."""
    _key_file: ClassVar[str]
    """File of a key, that is sealed where all are."""

    def __init__(self, folder: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self.folder = folder
        self._clock = clock

    @property
    def log(self) -> SecurityLog:
        """Its security log."""
        return self._log_in(self.folder)

    @property
    def exists(self) -> bool:
        """Whether somebody's identity is in the folder."""
        return (self.folder / self._mark).exists()

    @property
    def sealed(self) -> bool:
        """Whether its keys are sealed under a passphrase."""
        return is_sealed(self.folder / self._key_file)

    def _log_in(self, folder: Path) -> SecurityLog:
        return SecurityLog(folder / "security.jsonl", self._clock)
