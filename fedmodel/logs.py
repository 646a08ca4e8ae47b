"""Logs of our own processes: kept in a run's folder, and lines on stderr for people or machines."""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from fedmodel._escape import escaped
from fedmodel.errors import RunFolderError

__all__ = ["LogForm", "kept", "lines_to_stderr", "silenced"]

LogForm: TypeAlias = Literal["lines", "json"]

_OURS = ("fedmodel", "clients", "server", "simulations")
# What a site says there of a refusal stands in a simulation's display, once for all sites of the
# same reason.
_SHOWN = "clients.app"


@contextmanager
def kept(
    path: Path, *, beside: Callable[[logging.LogRecord], bool] | None = None
) -> Iterator[None]:
    """Within this context what is logged is appended to a file.

    Args:
        path: of the file.
        beside: which of it others show, too; by default warnings but for those that a simulation
            shows by itself.

    Raises:
        RunFolderError: if it can't be written.
    """
    try:
        file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"{path} can't be written: {error.strerror}") from error
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    shown = beside or _for_stderr
    root = logging.getLogger()
    others = list(root.handlers)
    root.addHandler(file)
    for handler in others:
        handler.addFilter(shown)
    try:
        with _from(logging.INFO):
            yield
    finally:
        root.removeHandler(file)
        file.close()
        for handler in others:
            handler.removeFilter(shown)


@contextmanager
def lines_to_stderr(form: LogForm) -> Iterator[None]:
    """Within this context each record is one line on stderr, of what is ours from "info" on.

    Args:
        form: ``lines``: time (UTC), level and text; ``json``: an object with these and the part of
            the program that says it.
    """
    root = logging.getLogger()
    others = list(root.handlers)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Line())
    for other in others:
        root.removeHandler(other)
    root.addHandler(handler)
    try:
        with _from(logging.INFO):
            yield
    finally:
        root.removeHandler(handler)
        for other in others:
            root.addHandler(other)


class _Line(logging.Formatter):
    """One line: time, level, text. What isn't printable in it is escaped, ends of lines too."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return f"{_time(record)} {record.levelname} {_text(record)}"


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        said = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "text": _text(record),
        }
        return json.dumps(said, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _text(record: logging.LogRecord) -> str:
    """Return what a record says; of an error its kind and place, for its words may quote a row."""
    text = escaped(record.getMessage())
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{text} ({type(error).__name__}{place})"


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
