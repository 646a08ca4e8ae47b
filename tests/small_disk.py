"""A disk of a few megabytes that only some processes see, filled and emptied while they run."""

import errno
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SmallDisk"]

_PIECE = 4096
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
_MOUNT = 'mount -t tmpfs -o size=16m,mode=700 none "$0" && exec "$@"'


class SmallDisk:
    """A file system in memory, in a mount namespace of its own. It is gone with its last process.

    Args:
        folder: where it is mounted; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pid = 0

    @staticmethod
    def missing(folder: Path) -> str | None:
        """Return why there can't be one on this machine; ``None``: there can."""
        if shutil.which(_NAMESPACE[0]) is None:
            return "there is no 'unshare' here"
        command = SmallDisk(folder).within(["true"])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stderr.strip() or "it ended otherwise than well" if done.returncode else None

    def within(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another where the disk is."""
        return [*_NAMESPACE, "sh", "-c", _MOUNT, str(self.folder), *command]

    def belong_to(self, pid: int) -> None:
        """Be the disk of a process, and of all that it starts."""
        self._pid = pid

    def seen(self, path: Path) -> Path:
        """Return the path by which this process, which isn't there, finds a file of the disk."""
        return Path(f"/proc/{self._pid}/root{path}")

    def fill(self) -> None:
        """Take all its room; files that are there keep the pages that they have."""
        with self.seen(self.folder / "filling").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(_PIECE))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        """Give the room back."""
        self.seen(self.folder / "filling").unlink()
