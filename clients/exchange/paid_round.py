"""Paid round of noise in shares at a site: its further attempts cost nothing, also after a restart.

Of all attempts of a round one at most can be opened, for no site consents to two
(:meth:`fedmodel.secagg.agreement.Agreement.one_set_of`). That counts the sites of one roster, so it
is kept under which rosters a round was paid.
"""

from dataclasses import dataclass
from pathlib import Path

from fedmodel import config
from fedmodel.errors import RunFolderError
from fedmodel.runs.files import read_json, read_record, to_json, write_atomic

__all__ = ["PaidRound"]

_SCHEMA = "fedmodel.paid/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    schema: str = _SCHEMA
    round: int = 0
    rosters: tuple[str, ...] = ()


class PaidRound:
    """The last round of a run that was paid, in its folder at a site.

    Args:
        folder: of the run.
        job: SHA-256 (hex) of the job.
        roster: SHA-256 (hex) of the roster of this joining.
    """

    def __init__(self, folder: Path, job: str, roster: str) -> None:
        self._path = folder / f"paid-{job[:32]}.json"
        self._roster = roster

    def covers(self, round_: int) -> bool:
        """Return whether another attempt of a round, under this roster, is paid already.

        A file that can't be read covers nothing: the attempt is paid then.
        """
        return self._roster in self._known(round_)

    def note(self, round_: int) -> None:
        """Note that an attempt of a round is paid: after that, and before anything of it leaves.

        Raises:
            RunFolderError: when it can't be written; then nothing may leave.
        """
        rosters = (*self._known(round_), self._roster)
        record = _Record(round=round_, rosters=tuple(dict.fromkeys(rosters)))
        write_atomic(self._path, to_json(config.to_mapping(record)))

    def _known(self, round_: int) -> tuple[str, ...]:
        if not self._path.exists():
            return ()
        try:
            found = read_record(_Record, read_json(self._path), _SCHEMA, str(self._path))
        except RunFolderError:
            return ()
        return found.rosters if found.round == round_ else ()
