"""Files of a site from round to round: one a round, of one kind, and the last closed round."""

from pathlib import Path

from fedmodel.errors import RunFolderError
from fedmodel.runs import write_atomic

__all__ = ["ClosedRounds", "RoundFiles"]

# After a crash the coordinator repeats its last round, so the file before it stays.
_FILES = 2


class RoundFiles:
    """Files of one kind in a site's folder, written once for each round.

    Args:
        folder: of the site's state.
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
    """The last round of a job in which the site has helped to unmask a sum.

    Args:
        folder: of the site's state.
        job: SHA-256 (hex) of the job.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self._path = folder / f"closed-{job[:32]}.txt"

    def read(self) -> int:
        """Return the round; 0 where there was none.

        Raises:
            RunFolderError: when the file isn't one that :meth:`write` has written.
        """
        try:
            text = self._path.read_text()
            if not (text.endswith("\n") and text[:-1].isdecimal() and len(text) < 12):
                raise ValueError
            return int(text)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{self._path} can't be read as a round's number; restore the site's state from a "
                "copy. Without it a sum could be unmasked twice"
            ) from error

    def write(self, round_: int) -> None:
        """Keep the round, durably.

        Raises:
            RunFolderError: when it can't be written.
        """
        write_atomic(self._path, f"{round_}\n".encode())


def _order(path: Path) -> tuple[int, str]:
    return len(path.name), path.name
