"""Replies of a secure sum that a site has given, so that the same request gets the same bytes.

A reply can be lost on its way, or with a coordinator that dies. Asked again with the very request,
a site gives the very reply, from its disk: nothing is computed, drawn or signed anew, and nobody
learns what hadn't left before. A request names its attempt and set of survivors, so its reply helps
no other. Those of an attempt go when the next one is opened.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmodel import _files
from fedmodel.errors import RunFolderError

__all__ = ["Part", "Replies"]

_SCHEMA = "fedmodel.reply/1"
_LEGS = ("train", "consent", "reveal")
_HEAD = 400  # bytes of the first line at most

Part: TypeAlias = bytes | NDArray[np.uint8]


class Replies:
    """The last reply of each leg, in a run's folder at a site.

    Args:
        folder: of the run.
        job: SHA-256 (hex) of the job.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self._folder = folder
        self._job = job
        # What only this process can have answered, for it is bound to keys in its memory.
        self._opened: tuple[str, bytes] | None = None

    def find(self, leg: str, request: bytes) -> tuple[bytes, ...] | None:
        """Return the parts of the reply that a request was given; ``None``: it wasn't, or is gone.

        Args:
            leg: of the protocol.
            request: its bytes.
        """
        asked = hashlib.sha256(request).hexdigest()
        if leg == "open":
            known = self._opened
            return (known[1],) if known is not None and known[0] == asked else None
        if leg not in _LEGS:
            return None
        try:
            if not _files.read(self._path(leg), _HEAD).startswith(_first(leg, asked)):
                return None
            return _parts(_files.read(self._path(leg)), _first(leg, asked))
        except OSError:
            return None

    def keep(self, leg: str, request: bytes, parts: Sequence[Part]) -> None:
        """Keep a reply before it leaves, and forget the last attempt's when one is opened.

        Args:
            leg: of the protocol.
            request: that it answers.
            parts: of the reply.

        Raises:
            RunFolderError: when the disk doesn't take it; then it must not leave.
        """
        asked = hashlib.sha256(request).hexdigest()
        if leg == "open":
            self._forget()
            self._opened = (asked, bytes(parts[0]))
            return
        buffers = [memoryview(p if isinstance(p, bytes) else p.data) for p in parts]
        sizes = " ".join(str(buffer.nbytes) for buffer in buffers)
        head = _first(leg, asked) + f" {_digest(buffers)} {sizes}\n".encode()
        try:
            _files.make_folder(self._folder)
            _files.write_whole(self._path(leg), [head, *buffers])
        except OSError as error:
            raise RunFolderError(
                f"can't write {self._path(leg)}: {error.strerror}. This reply hasn't left the "
                "site. Free space, and let the round be begun again"
            ) from error

    def _forget(self) -> None:
        for leg in _LEGS:
            try:
                with suppress(FileNotFoundError):
                    self._path(leg).unlink()
            except OSError as error:
                raise RunFolderError(
                    f"can't remove {self._path(leg)}: {error.strerror}. Nothing of this round has "
                    "left the site. Let its folder be written to, and the round be begun again"
                ) from error

    def _path(self, leg: str) -> Path:
        return self._folder / f"reply-{leg}-{self._job[:32]}.bin"


def _first(leg: str, asked: str) -> bytes:
    return f"{_SCHEMA} {leg} {asked}".encode()


def _digest(buffers: Sequence[memoryview]) -> str:
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer)
    return digest.hexdigest()


def _parts(data: bytes, first: bytes) -> tuple[bytes, ...] | None:
    """Return the parts in a file; ``None``: a power cut has left only some of it."""
    head, _, rest = data.partition(b"\n")
    words = head[len(first) :].decode("ascii", "replace").split()
    digest, sizes = "".join(words[:1]), words[1:]
    if hashlib.sha256(rest).hexdigest() != digest or not all(s.isdecimal() for s in sizes):
        return None
    if sum(map(int, sizes)) != len(rest):
        return None
    parts = []
    for size in map(int, sizes):
        parts.append(rest[:size])
        rest = rest[size:]
    return tuple(parts)
