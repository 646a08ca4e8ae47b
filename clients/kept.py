"""What a site keeps from round to round: one file a round, of one kind."""

from pathlib import Path

from fedmodel.runs import write_atomic

__all__ = ["Kept"]

# After a crash the coordinator repeats its last round, so the file before it stays.
_FILES = 2


class Kept:
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


def _order(path: Path) -> tuple[int, str]:
    return len(path.name), path.name
