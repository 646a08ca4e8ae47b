"""Evidence of a run: named parts and their bytes, wherever they lie, read only when asked for.

Whoever hands it in is trusted with nothing: a name leads nowhere but into the evidence itself, only
plain files are opened, no link is followed, and a part that is larger than its kind ever needs to
be isn't read.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypeAlias

from fedmodel.errors import EvidenceError

__all__ = [
    "KINDS",
    "OF_A_SITE",
    "Evidence",
    "FolderEvidence",
    "Kind",
    "Part",
    "names_under",
    "open_plain",
    "site_of",
]

Kind: TypeAlias = Literal[
    "manifest",
    "metrics",
    "summary",
    "heads",
    "ledger",
    "own-head",
    "shown-head",
    "coordinator",
    "coordinator-head",
    "state",
    "roster",
    "model",
]

_MB = 1 << 20
_MOST_NAMES = 200_000
_DEEPEST = 5
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of part.

    Args:
        pattern: of its names, from the evidence's root, with slashes.
        largest: bytes that one may have.
    """

    pattern: re.Pattern[str]
    largest: int


def _part(pattern: str, largest: int) -> Part:
    return Part(re.compile(pattern), largest)


KINDS: dict[Kind, Part] = {
    "manifest": _part(r"manifest\.json", 16 * _MB),
    "metrics": _part(r"metrics\.jsonl", 256 * _MB),
    "summary": _part(r"summary\.json", 16 * _MB),
    "heads": _part(r"heads\.json", 64 * _MB),
    "ledger": _part(r"ledger/(?P<site>[^/]+)\.jsonl", 512 * _MB),
    "own-head": _part(r"sites/(?P<site>[^/]+)/heads/[^/]+\.json", _MB),
    "shown-head": _part(r"sites/(?P<site>[^/]+)/runs/(?P<run>[^/]+)/coordinator-head\.json", _MB),
    "coordinator": _part(r"coordinator\.jsonl", 512 * _MB),
    "coordinator-head": _part(r"coordinator-head\.json", _MB),
    "state": _part(r"checkpoints/round-(?P<round>[0-9]{4,9})/state\.json", 16 * _MB),
    "roster": _part(
        r"rosters/(?P<sha256>[0-9a-f]{64})\.json|roster\.json|coordinator/consortium/register\.json",
        32 * _MB,
    ),
    "model": _part(
        r"model/trained\.safetensors|checkpoints/round-(?P<round>[0-9]{4,9})/model\.safetensors",
        1 << 40,
    ),
}

OF_A_SITE: tuple[Kind, ...] = ("ledger", "own-head", "shown-head")  # what it hands in itself


def site_of(kind: Kind, name: str) -> str | None:
    """Return the site that a part is of; ``None``: the name isn't of that kind.

    Args:
        kind: one of :data:`OF_A_SITE`.
        name: of the part.
    """
    found = KINDS[kind].pattern.fullmatch(name)
    return None if found is None else found["site"]


class Evidence(Protocol):
    """Parts by name. What there is of it lies in a folder, or in a bundle."""

    where: str

    @property
    def left_out(self) -> frozenset[str]:
        """Names of the parts that there are, by whoever packed it, and that aren't here."""

    def names(self, kind: Kind) -> list[str]:
        """Return the names of the parts of a kind, sorted."""

    def read(self, kind: Kind, name: str) -> bytes:
        """Return a part's bytes.

        Raises:
            EvidenceError: when it isn't there, can't be read, or is too large.
        """

    def sha256(self, kind: Kind, name: str) -> str:
        """Return the SHA-256 (hex) of a part, without holding it whole.

        Raises:
            EvidenceError: likewise.
        """

    def chunks(self, kind: Kind, name: str) -> Iterator[bytes]:
        """Yield a part's bytes, piece by piece.

        Raises:
            EvidenceError: likewise.
        """


class FolderEvidence:
    """Evidence in a run folder.

    Args:
        folder: of the run.

    Raises:
        EvidenceError: when there is no such folder, or it can't be read or has too many files.
    """

    left_out: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder
        try:
            self._names = names_under(folder)
        except FileNotFoundError:
            raise EvidenceError(
                f"there is no folder {folder}; give a run's name, or the path of its folder"
            ) from None
        except OSError as error:
            raise EvidenceError(f"{error.filename or folder}: {error.strerror}") from error

    def names(self, kind: Kind) -> list[str]:
        """Return the names of the parts of a kind, sorted."""
        matches = KINDS[kind].pattern.fullmatch
        return [name for name in self._names if matches(name)]

    def read(self, kind: Kind, name: str) -> bytes:
        """Return a part's bytes.

        Raises:
            EvidenceError: when it isn't there, isn't a plain file, can't be read, or is too large.
        """
        return b"".join(self.chunks(kind, name))

    def sha256(self, kind: Kind, name: str) -> str:
        """Return the SHA-256 (hex) of a part, without holding it whole.

        Raises:
            EvidenceError: likewise.
        """
        digest = hashlib.sha256()
        for chunk in self.chunks(kind, name):
            digest.update(chunk)
        return digest.hexdigest()

    def chunks(self, kind: Kind, name: str) -> Iterator[bytes]:
        """Yield a part's bytes, piece by piece.

        Raises:
            EvidenceError: likewise.
        """
        largest = KINDS[kind].largest
        if not KINDS[kind].pattern.fullmatch(name) or {".", ".."} & {*name.split("/")}:
            raise EvidenceError(f"{name!r:.200} is no part of a run's evidence")
        try:
            handle = open_plain(self._folder, name)
            try:
                size = os.fstat(handle).st_size
                while size <= largest and (chunk := os.read(handle, _CHUNK)):
                    yield chunk
                    largest -= len(chunk)  # it may grow while it is read
                    size = 0 if largest >= 0 else largest + 1
            finally:
                os.close(handle)
        except OSError as error:
            what = "it is a link" if error.errno == errno.ELOOP else error.strerror
            raise EvidenceError(f"{self.where}/{name} can't be read: {what}") from error
        if size > largest:
            raise EvidenceError(
                f"{self.where}/{name} is larger than {KINDS[kind].largest} bytes, and no {kind} is"
            )


def names_under(folder: Path) -> list[str]:
    """Return the names of the files under a folder, sorted; a link is one that can't be opened.

    Args:
        folder: in which none is deeper than any part of a run.

    Raises:
        EvidenceError: when there are too many.
        OSError: when it can't be read.
    """
    return sorted(_walk(folder, "", _DEEPEST))


def _walk(folder: Path, under: str, depth: int) -> Iterator[str]:
    count = 0
    with os.scandir(folder / under) as found:
        for entry in found:
            name = f"{under}/{entry.name}" if under else entry.name
            if entry.is_dir(follow_symlinks=False):
                if depth > 1:
                    yield from _walk(folder, name, depth - 1)
            else:
                yield name
            count += 1
            if count > _MOST_NAMES:
                raise EvidenceError(
                    f"{folder / under} has more than {_MOST_NAMES} files; that is no run"
                )


def open_plain(folder: Path, name: str) -> int:
    """Open a file, going down from its folder, so that no link on the way leads out of it.

    Args:
        folder: where it lies.
        name: of it, from there, with slashes.

    Raises:
        OSError: when it can't be read, or is no plain file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    *folders, last = name.split("/")
    at = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for each in folders:
            inner = os.open(each, flags | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = inner
        handle = os.open(last, flags | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it isn't a plain file")
    return handle
