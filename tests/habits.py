"""Habits of a session of tests that would cost more than what they test."""

import functools
import importlib.metadata
import logging
import os
from typing import Any

from _pytest.logging import catching_logs

__all__ = ["leave_off"]


def leave_off() -> None:
    """Leave off what no test here can tell from doing it.

    A test captures what the root logger gets. pytest also looks, six times a test, through the
    thousands of loggers of all libraries for those that pass nothing on to it, to capture them too.
    And a process that dies loses nothing that it has written: only a machine does, and none dies
    here. Whether and when files are synced is tested by what is put in place of ``os.fsync``.
    Which version a package has is read from its files each time; no test installs any.
    """
    catching_logs.__enter__ = _attach_to_root  # type: ignore[method-assign]
    os.fsync = lambda fd: None
    importlib.metadata.version = functools.cache(importlib.metadata.version)


def _attach_to_root(self: Any) -> Any:
    root = logging.getLogger()
    if self.level is not None:
        self.handler.setLevel(self.level)
        self.orig_level = root.level
        root.setLevel(min(root.level, self.level))
    root.addHandler(self.handler)
    self.attached_loggers.append(root)
    return self.handler
