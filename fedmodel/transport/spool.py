"""A folder for large letters that are under way: nothing in it outlives its process."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmodel.errors import RunFolderError

__all__ = ["spool"]

_PREFIX = ".letters-"


@contextmanager
def spool(beside: Path) -> Iterator[Path]:
    """Make such a folder, and remove what a kill has left of those before.

    Args:
        beside: folder to make it in; no other process has one there.

    Raises:
        RunFolderError: when it can't be made.
    """
    try:
        for left in beside.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        made = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=beside, ignore_cleanup_errors=True)
    except OSError as error:
        raise RunFolderError(
            f"can't make a folder in {beside}: {error.strerror}; free space, or let it be written "
            "to"
        ) from error
    with made as folder:
        yield Path(folder)
