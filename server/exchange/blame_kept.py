"""Blame that outlives the coordinator: read when it starts, written when it finds out more."""

import logging
from pathlib import Path

from fedmodel.identity import Roster
from fedmodel.runs.blame_file import Disputed, KeptBlame, read_blame, write_blame
from fedmodel.secagg.blame import Blame
from server.coordinator import Coordinator

__all__ = ["BlameOnDisk", "blame_of"]

logger = logging.getLogger(__name__)


def blame_of(coordinator: Coordinator) -> Blame | None:
    """Return what an earlier start of this coordinator has found out; ``None``: it sums nothing.

    Args:
        coordinator: of the run.

    Raises:
        RunFolderError: when it can't be read.
    """
    sums, keys, folder = coordinator.job.secagg.sums, coordinator.keys, coordinator.folder
    if sums is None:
        return None
    blame = Blame(sums.colluders)
    if keys is None or folder is None:
        return blame
    kept = read_blame(folder.blame)
    numbers = {key.hex(): number for number, key in keys.roster.keys.items()}
    for one in kept.disputes:
        if one.accuser in numbers and one.accused in numbers:
            blame.dispute(numbers[one.accuser], numbers[one.accused], one.why)
    for key, why in kept.proved.items():
        if key in numbers:
            blame.prove(numbers[key], why)
    for member, why in blame.news().items():
        name = keys.roster.member(member).name
        logger.warning(
            "site %s was found to be wrong before this start, and stays left out of this run's "
            "sums as far as enough sites are left: %s. Once it is mended: end this, remove %s and "
            "start anew", name, why, folder.blame,
        )  # fmt: skip
    return blame


class BlameOnDisk:
    """What is found out, in the run's folder.

    Args:
        path: of the file; ``None``: it is kept nowhere.
        blame: what is found out.
        roster: whose sites these are.

    Raises:
        RunFolderError: when what is there can't be read.
    """

    def __init__(self, path: Path | None, blame: Blame, roster: Roster) -> None:
        self._path = path
        self._blame = blame
        self._keys = {number: key.hex() for number, key in roster.keys.items()}
        self._written = KeptBlame() if path is None else read_blame(path)

    def _found(self) -> KeptBlame:
        return KeptBlame(
            proved={self._keys[n]: why for n, why in sorted(self._blame.proved.items())},
            disputes=tuple(
                Disputed(accuser=self._keys[a], accused=self._keys[b], why=why)
                for (a, b), why in sorted(self._blame.disputes.items())
            ),
        )

    def keep(self) -> None:
        """Write down what is new.

        Raises:
            RunFolderError: when it can't be written.
        """
        found = self._found()
        if self._path is not None and found != self._written:
            write_blame(self._path, found)
            self._written = found
