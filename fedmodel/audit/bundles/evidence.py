"""Evidence in a bundle: read from its file, which is trusted with nothing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from fedmodel.audit.bundles.container import Archive
from fedmodel.audit.bundles.statement import Signed
from fedmodel.audit.evidence import KINDS, Kind
from fedmodel.errors import EvidenceError

__all__ = ["HANDED", "STATEMENT", "BundleEvidence", "handed_name"]

STATEMENT = "statement.dsse.json"
HANDED = ("handed-in/", ".dsse.json")
_LARGEST_STATEMENT = 16 << 20


def handed_name(site: str) -> str:
    """Return the name of the statement under which a site has handed its parts in."""
    return f"{HANDED[0]}{site}{HANDED[1]}"


def _largest(name: str) -> int | None:
    if name == STATEMENT or _site_of(name) is not None:
        return _LARGEST_STATEMENT
    for part in KINDS.values():
        if part.pattern.fullmatch(name):
            return part.largest
    return None


def _site_of(name: str) -> str | None:
    begins, ends = HANDED
    if not name.startswith(begins) or not name.endswith(ends):
        return None
    return name.removeprefix(begins).removesuffix(ends)


class BundleEvidence:
    """A bundle's parts. Each byte of its file is looked at once before any of them is used.

    Args:
        path: of its file.
        packer: fingerprint of the key that must have signed it; ``None``: anybody's.

    Raises:
        EvidenceError: when it can't be read, isn't whole, or a newer version has packed it.
    """

    def __init__(self, path: Path, packer: str | None = None) -> None:
        self.where = str(path)
        self.packer = packer
        self._archive = Archive(path, _largest)
        if self._archive.names[:1] != [STATEMENT]:
            raise EvidenceError(f"{self.where} has no {STATEMENT} at its head: it is no bundle")
        self._digests: dict[str, str] = {}
        for name in self._archive.names:
            digest = hashlib.sha256()
            for chunk in self._archive.chunks(name):
                digest.update(chunk)
            self._digests[name] = digest.hexdigest()
        self.signed = Signed.read(self._whole(STATEMENT), f"{self.where}, {STATEMENT}")
        self.handed = {
            site: Signed.read(self._whole(name), f"{self.where}, {name}")
            for name in self._archive.names
            if (site := _site_of(name)) is not None
        }
        self._check_listed()

    def _check_listed(self) -> None:
        claim, listed = self.signed.claim, {*self.signed.parts}
        there = {*self._archive.names} - {STATEMENT}
        matches = KINDS["model"].pattern.fullmatch
        if others := [name for name in claim.left_out if not matches(name)]:
            raise EvidenceError(
                f"{self.where} says that it was packed without {others[0]!r:.200}; only a model's "
                "files may be left out. Ask for it whole"
            )
        if missing := listed - there - {*claim.left_out}:
            raise EvidenceError(f"{self.where} lacks {min(missing)!r:.200}, which it says it has")
        if unlisted := there - listed:
            raise EvidenceError(
                f"{self.where} has {min(unlisted)!r:.200}, which its statement doesn't list"
            )
        if both := {*claim.left_out} & there or {*claim.left_out} - listed:
            raise EvidenceError(
                f"{self.where} says that it was packed without {min(both)!r:.200}, which it has, "
                "or doesn't list"
            )
        if [*claim.handed_in] != sorted(self.handed):
            raise EvidenceError(
                f"{self.where} names other parties that have handed something in than it has "
                "statements of"
            )

    @property
    def left_out(self) -> frozenset[str]:
        """Names of the parts that there are, by whoever packed it, and that aren't here."""
        return frozenset(self.signed.claim.left_out)

    @property
    def changed(self) -> list[str]:
        """The parts that have another SHA-256 than the statement says."""
        listed = self.signed.parts
        return [n for n, sha in self._digests.items() if n != STATEMENT and listed[n] != sha]

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 (hex) of a member; ``None`` where there is none of that name."""
        return self._digests.get(name)

    def names(self, kind: Kind) -> list[str]:
        """Return the names of the parts of a kind, sorted."""
        matches = KINDS[kind].pattern.fullmatch
        return sorted(name for name in self._digests if matches(name))

    def read(self, kind: Kind, name: str) -> bytes:
        """Return a part's bytes.

        Raises:
            EvidenceError: when it isn't there, can't be read, or was changed meanwhile.
        """
        return b"".join(self.chunks(kind, name))

    def sha256(self, kind: Kind, name: str) -> str:
        """Return the SHA-256 (hex) of a part, as it was looked at first.

        Raises:
            EvidenceError: when it isn't there.
        """
        self._check(kind, name)
        return self._digests[name]

    def chunks(self, kind: Kind, name: str) -> Iterator[bytes]:
        """Yield a part's bytes, piece by piece.

        Raises:
            EvidenceError: when it isn't there, can't be read, or was changed meanwhile.
        """
        self._check(kind, name)
        digest = hashlib.sha256()
        for chunk in self._archive.chunks(name):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != self._digests[name]:
            raise EvidenceError(f"{self.where} was changed while it was read; try again")

    def statement_of(self, site: str) -> bytes:
        """Return the bytes of the statement under which a site has handed its parts in."""
        return self._whole(handed_name(site))

    @property
    def statement(self) -> bytes:
        """The bytes of its own statement."""
        return self._whole(STATEMENT)

    def _whole(self, name: str) -> bytes:
        return b"".join(self._archive.chunks(name))

    def _check(self, kind: Kind, name: str) -> None:
        if not KINDS[kind].pattern.fullmatch(name):
            raise EvidenceError(f"{name!r:.200} is no part of a run's evidence")
        if name not in self._digests:
            raise EvidenceError(f"{self.where} has no {name!r:.200}")
