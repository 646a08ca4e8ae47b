"""Paid round of noise in shares at a site: its further attempts cost nothing, also after a restart.

Of all attempts of a round one at most can be opened, for no site consents to two
(:meth:`fedmodel.secagg.agreement.Agreement.one_set_of`). That counts the sites of one roster, so it
is kept under which rosters a round was paid: the n-th of them by the ledger's n-th payment.
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

    def covers(self, round_: int, payments: int) -> bool:
        """Return whether another attempt of a round, under this roster, is paid already.

        A file that can't be read covers nothing: the attempt is paid then.

        Args:
            round_: of the run.
            payments: so many times the ledger has it. What was noted and not paid, for the process
                died in between, isn't covered.
        """
        known = self._known(round_)
        return self._roster in known and known.index(self._roster) < payments

    def note(self, round_: int, payments: int) -> None:
        """Note that an attempt of a round is paid next: before that, so that it is known after.

        Args:
            round_: of the run.
            payments: so many times the ledger has it by now.

        Raises:
            RunFolderError: when it can't be written; then nothing may be paid.
        """
        known = self._known(round_)
        if self._roster not in known or known.index(self._roster) >= payments:
            known = tuple(each for each in known if each != self._roster)[:payments]
            # Of which rosters earlier payments were isn't known where the file was lost.
            known = (*known, *("",) * (payments - len(known)), self._roster)
        record = _Record(round=round_, rosters=known)
        write_atomic(self._path, to_json(config.to_mapping(record)))

    def _known(self, round_: int) -> tuple[str, ...]:
        if not self._path.exists():
            return ()
        try:
            found = read_record(_Record, read_json(self._path), _SCHEMA, str(self._path))
        except RunFolderError:
            return ()
        return found.rosters if found.round == round_ else ()
