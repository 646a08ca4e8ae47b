"""Packing: which parts go into a bundle, under which statement, and how its file is written."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from fedmodel import _files
from fedmodel.audit.bundles.container import Filed, archive, member
from fedmodel.audit.bundles.evidence import STATEMENT
from fedmodel.audit.bundles.statement import Claim, Signed
from fedmodel.audit.evidence import KINDS, Evidence, Kind
from fedmodel.errors import ConfigError
from fedmodel.ledger.tree_head import Signer

__all__ = ["Parts", "in_memory", "pack", "parts_of"]

Parts = Mapping[str, Callable[[], Iterable[bytes]]]  # name → what yields its bytes, again and again


def in_memory(parts: Mapping[str, bytes]) -> Parts:
    """Return parts whose bytes are known."""
    return {name: partial(_once, text) for name, text in parts.items()}


def _once(text: bytes) -> Iterator[bytes]:
    yield text


def parts_of(evidence: Evidence, *, model: bool) -> Parts:
    """Return what of a run goes into a bundle.

    Args:
        evidence: of the run.
        model: whether its model's files do, too.
    """
    kinds: list[Kind] = [kind for kind in KINDS if kind != "model" or model]
    return {
        name: partial(evidence.chunks, kind, name) for kind in kinds for name in _of(evidence, kind)
    }


def _of(evidence: Evidence, kind: Kind) -> list[str]:
    names = evidence.names(kind)
    if kind != "roster":
        return names
    # A consortium's register has what only it needs; it stands in where there is no roster else.
    rosters = [name for name in names if name.startswith("rosters/")]
    return rosters or names


def pack(
    to: Path,
    claim: Claim,
    parts: Parts,
    signer: Signer,
    left_out: Mapping[str, str] | None = None,
) -> Signed:
    """Write a bundle, or nothing.

    Args:
        to: file to write. It mustn't exist, unless it is that bundle.
        claim: what it says of itself.
        parts: that it has.
        signer: the packer's key.
        left_out: name → SHA-256 (hex) of files that it only names.

    Returns:
        Its statement.

    Raises:
        ConfigError: when there is something else under that name, or it can't be written.
        EvidenceError: when a part can't be read, or what there is has no room in a bundle.
    """
    members, digests = list[Filed](), dict(left_out or {})
    for name in sorted(parts, key=str.encode):
        found, digests[name] = _looked_through(name, parts[name])
        members.append(found)
    signed = Signed.make(claim, digests, signer)
    head = member(STATEMENT, partial(_once, signed.envelope.to_json()))
    try:
        if to.exists() or to.is_symlink():
            _check_same(to, archive([head, *members]))
        else:
            _files.write_whole(to, archive([head, *members]), durable=True)
    except OSError as error:
        raise ConfigError(f"to={to} can't be written: {error.strerror}") from error
    return signed


def _looked_through(name: str, chunks: Callable[[], Iterable[bytes]]) -> tuple[Filed, str]:
    digest = hashlib.sha256()

    def digested() -> Iterator[bytes]:
        for chunk in chunks():
            digest.update(chunk)
            yield chunk

    entry = member(name, digested).entry
    return Filed(entry, chunks), digest.hexdigest()


def _check_same(path: Path, parts: Iterable[bytes]) -> None:
    """Check that a file has these bytes.

    Raises:
        ConfigError: when it has others.
    """
    with path.open("rb") as file:
        same = all(file.read(len(part)) == part for part in parts) and not file.read(1)
    if not same:
        raise ConfigError(
            f"to={path} is there already, and is something else; give another name, or move it away"
        )
