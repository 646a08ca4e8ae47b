"""A kill between any two system calls on files: nothing runs after it, not even what tidies up."""

import os
import shutil
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fedmodel import _files

_CALLS = (
    "mkdir",
    "open",
    "write",
    "fsync",
    "replace",
    "rename",
    "unlink",
    "rmdir",
    "ftruncate",
    "posix_fallocate",
)


class Killed(BaseException):
    """The process ended here."""


def killed_at(call: int, life: Callable[[], object]) -> bool:
    """Run something until a system call on a file; return whether it came to that.

    Args:
        call: which one, from 1.
        life: what is run.
    """
    left = call

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise Killed
            return real(*args, **kwargs)

        return run

    def tidied(*args: Any, **kwargs: Any) -> None:
        if left > 0:
            real_rmtree(*args, **kwargs)

    real_rmtree = shutil.rmtree
    names = {name: getattr(os, name) for name in dir(os)}
    proxy = SimpleNamespace(**(names | {name: counted(getattr(os, name)) for name in _CALLS}))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_files, "os", proxy)
        patched.setattr(_files, "shutil", SimpleNamespace(rmtree=tidied))
        try:
            life()
        except Killed:
            return True
    return False
