"""Files of a site from round to round of one run: one a round, and the last closed round."""

import logging
import re
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import RunFolderError
from fedmodel.runs import write_atomic
from fedmodel.secagg.closing import check_open

__all__ = ["ClosedRounds", "RoundFiles", "forget"]

logger = logging.getLogger(__name__)

# After a crash the coordinator repeats its last round, so the file before it stays.
_FILES = 2
_JOB = re.compile(r"[0-9a-f]{64}")


class RoundFiles:
    """Files of one kind in a site's folder, written once for each round.

    Args:
        folder: of the run.
        kind: first part of the files' names.
        suffix: last part.
    """

    def __init__(self, folder: Path, kind: str, suffix: str) -> None:
        self._folder = folder
        self._kind = kind
        self._suffix = suffix

    def before(self, round_: int) -> Path | None:
        """Return the newest file from before a round: the site may have missed some."""
        limit = _order(self._file(round_))
        older = [path for path in self._files() if _order(path) < limit]
        return older[-1] if older else None

    def write(self, round_: int, data: bytes) -> None:
        """Keep this round's, and drop those that no repeated round can need."""
        write_atomic(self._file(round_), data)
        for old in self._files()[:-_FILES]:
            old.unlink(missing_ok=True)

    def _file(self, round_: int) -> Path:
        return self._folder / f"{self._kind}-{round_:04d}{self._suffix}"

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._kind}-*{self._suffix}"), key=_order)


class ClosedRounds:
    """The last round of a run in which the site has signed a set of survivors.

    One for all sessions and processes of the site: of several that close the same round one
    succeeds (:class:`fedmodel.secagg.closing.Closing`).

    Args:
        folder: of the run.
        job: SHA-256 (hex) of the job.
        before: folder in which versions before 0.2 kept the like by job alone. Which run such a
            file is of it doesn't say, so it counts for every run of that job.
    """

    def __init__(self, folder: Path, job: str, before: Path) -> None:
        name = f"closed-{job[:32]}.txt"
        self._path = folder / name
        self._before = before / name
        if self._before.exists():
            logger.warning(
                "%s is of an earlier version, and doesn't say of which run: up to the round in it "
                "this site takes part in no run's secure sums of that job. Remove the file when "
                "the run that has written it won't be resumed",
                self._before,
            )

    def last(self) -> int:
        """Return the round; 0 where there was none. It is read anew each time.

        Raises:
            RunFolderError: when the file isn't one that :meth:`close` has written.
        """
        return max(_number(self._path), _number(self._before))

    def close(self, round_: int) -> None:
        """Close a round, durably, under a lock that ends with the process.

        Args:
            round_: of the run.

        Raises:
            ReplayError: when it, or a later one, is closed already.
            RunFolderError: when the file can't be read or written.
        """
        try:
            _files.make_folder(self._path.parent)
            with _files.locked(self._path.with_name(f".{self._path.name}.lock"), write=True):
                check_open(round_, self.last())
                _files.write_atomic(self._path, f"{round_}\n".encode())
        except OSError as error:
            raise RunFolderError(
                f"can't write {self._path}: {error.strerror}; nothing has left this site for the "
                "round's sum"
            ) from error


def forget(folder: Path, job: str) -> None:
    """Remove what is kept for further rounds of a run that has come to its end.

    Which rounds are closed stays for ever. What can't be removed is logged: the run has ended.

    Args:
        folder: of the run.
        job: SHA-256 (hex) of its job.
    """
    short = job[:32]
    kinds = (
        *(f"optimizer-{short}-*", f"clip-{short}-*", f"reply-*-{short}.bin"),
        *(f"update-{short}.bin", f".update-{short}.bin.*.tmp", f"paid-{short}.json"),
    )
    if not _JOB.fullmatch(job):
        return
    try:
        for path in [path for kind in kinds for path in folder.glob(kind)]:
            path.unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        logger.warning("files of a run that has ended stay in %s: %s", folder, error.strerror)


def _number(path: Path) -> int:
    try:
        text = _files.read(path).decode()
        if not (text.endswith("\n") and text[:-1].isdecimal() and len(text) < 12):
            raise ValueError
        return int(text)
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} can't be read as a round's number. By an older copy of it a sum could be "
            "unmasked twice: leave this run, and let another be started"
        ) from error


def _order(path: Path) -> tuple[int, str]:
    return len(path.name), path.name
