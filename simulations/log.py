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
    root = logging.getLogger()
    others = list(root.handlers)
    root.addHandler(file)
    for handler in others:
        handler.addFilter(_for_stderr)
    try:
        with _from(logging.INFO):
            yield
    finally:
        root.removeHandler(file)
        file.close()
        for handler in others:
            handler.removeFilter(_for_stderr)


@contextmanager
def silenced() -> Iterator[None]:
    """Within this context no warning is logged: all were, when the same was done before."""
    with _from(logging.ERROR):
        yield


@contextmanager
def _from(least: int) -> Iterator[None]:
    """Within this context our own words are logged from a level on."""
    ours = [logging.getLogger(name) for name in _OURS]
    levels = [logger.level for logger in ours]
    for logger in ours:
        logger.setLevel(least)
    try:
        yield
    finally:
        for logger, level in zip(ours, levels, strict=True):
            logger.setLevel(level)


def _for_stderr(record: logging.LogRecord) -> bool:
    if record.name.partition(".")[0] not in _OURS:
        return True  # what else a process says is none of a run's
    return record.levelno >= logging.WARNING and record.name != _SHOWN
