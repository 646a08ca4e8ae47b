"""Refusals of jobs in a security log: each once, and so few a day that none can fill a disk."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from fedmodel import _files, config
from fedmodel.errors import LedgerError
from fedmodel.identity.recent import Recent
from fedmodel.identity.security_log import SecurityLog
from fedmodel.identity.validity import utc_now

__all__ = ["RefusalLog"]

_MOST = 100  # rows in 24 hours; a row has some 500 bytes


class RefusalLog:
    """The refusals in a party's security log.

    Args:
        folder: of the party; the first refusal makes it.
        clock: tells the time.
        most: rows in 24 hours. One more says that others were left out.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], datetime] = utc_now, most: int = _MOST
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._most = most
        self._recent = Recent(folder / "refusals.json")

    def add(self, event: str, same: tuple[str, ...], **about: str) -> None:
        """Write a refusal, unless it was written before or there were too many of late.

        Args:
            event: what was done.
            same: what makes two refusals one: run, job and rule, say.
            about: as in :meth:`SecurityLog.add`.

        Raises:
            LedgerError: when the log can't be read or written.
            RunFolderError: when what was written of late can't.
        """
        now, most = self._clock(), self._most
        key = config.digest([event, *same])
        count = self._recent.would_be(key, now)
        if count > most:
            event, about = "refusals-left-out", {"more_than": str(most)}
            key, most = config.digest([event, f"{now:%Y-%m-%d}"]), most + 1
            count = self._recent.would_be(key, now)
        if not 0 < count <= most:
            return
        try:
            _files.make_folder(self._folder)
        except OSError as error:
            raise LedgerError(f"can't make {self._folder}: {error.strerror}") from error
        # The row first: a crash in between writes it twice, and loses none.
        SecurityLog(self._folder / "security.jsonl", self._clock).add(event, **about)
        self._recent.note(key, now, most)
