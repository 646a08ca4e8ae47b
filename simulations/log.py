"""Log of a run: its parties' words, kept in its folder, and less of them on stderr."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmodel.errors import RunFolderError

__all__ = ["kept", "silenced"]

_OURS = ("fedmodel", "clients", "server", "simulations")
# What a site says there of a refusal stands in the display, once for all sites of the same reason.
_SHOWN = "clients.app"


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Within this context what is logged is appended to a file.

    Args:
        path: of the file.

    Raises:
        RunFolderError: if it can't be written.
    """
    try:
        file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"{path} can't be written: {error.strerror}") from error
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in _OURS]
    others, levels = list(root.handlers), [logger.level for logger in ours]
    root.addHandler(file)
    for handler in others:
        handler.addFilter(_for_stderr)
    for logger in ours:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(file)
        file.close()
        for handler in others:
            handler.removeFilter(_for_stderr)
        for logger, level in zip(ours, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def silenced() -> Iterator[None]:
    """Within this context no warning is logged: all were, when the same was done before."""
    ours = [logging.getLogger(name) for name in _OURS]
    levels = [logger.level for logger in ours]
    for logger in ours:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(ours, levels, strict=True):
            logger.setLevel(level)


def _for_stderr(record: logging.LogRecord) -> bool:
    if record.name.partition(".")[0] not in _OURS:
        return True  # what else a process says is none of a run's
    return record.levelno >= logging.WARNING and record.name != _SHOWN
