"""Derivation of an attempt's graph, seeds, keys and commitments."""

import hashlib
from collections.abc import Mapping, Sequence

from fedmodel import _hazmat, config
from fedmodel.errors import FloorError, ProtocolError, ReplayError
from fedmodel.secagg.agreement import Agreement
from fedmodel.secagg.fields import VERSION, label, verify
from fedmodel.secagg.graph import Graph, make_graph
from fedmodel.secagg.messages import Advert, Manifest

__all__ = [
    "check_advert",
    "check_agreed",
    "commitment",
    "graph_of",
    "pair_commitment",
    "pair_seed",
    "pledge",
    "recovery_key",
]

_AGREED = ("session", "job", "roster", "survivors", "colluders", "threshold", "bits", "count")


def graph_of(manifest: Manifest) -> Graph:
    """Return who masks with whom, and holds whose shares, in a manifest's attempt.

    The order of a sparse graph follows from the roster: no coordinator can try out others.
    """
    return make_graph(
        manifest.cohort,
        survivors=manifest.survivors,
        colluders=manifest.colluders,
        threshold=manifest.threshold,
        seed=label("graph", bytes.fromhex(manifest.roster)),
    )


def pair_seed(secret: bytes, attempt: bytes, one: int, other: int) -> bytes:
    """Return the seed of two sites' mask in an attempt, from the secret that they share."""
    low, high = sorted((one, other))
    return _hazmat.hkdf(secret, label("mask", attempt, low, high))


def recovery_key(secret: bytes, attempt: bytes, member: int) -> bytes:
    """Return the key under which a site's mask seeds of an attempt are kept at the coordinator."""
    return _hazmat.hkdf(secret, label("recovery", attempt, member))


def commitment(purpose: str, secret: bytes, attempt: bytes, member: int) -> str:
    """Return a hash (hex) that fixes a secret of 32 random bytes and tells nothing of it."""
    return hashlib.sha256(label(f"commit {purpose}", attempt, member, secret)).hexdigest()


def pair_commitment(seed: bytes, attempt: bytes, one: int, other: int) -> str:
    """Return a hash (hex) of two sites' mask seed: both commit to it, and nobody learns it so."""
    low, high = sorted((one, other))
    return hashlib.sha256(label("commit pair", attempt, low, high, seed)).hexdigest()


def check_advert(advert: Advert, agreement: Agreement, members: Mapping[int, bytes]) -> None:
    """Check that an advert is a site's own, for a session.

    Raises:
        ReplayError: when it is of another session, job or roster.
        ProtocolError: for a site that isn't in the roster, or a wrong signature.
    """
    if advert.member not in members:
        raise ProtocolError(f"a key of site {advert.member}, which isn't in the roster")
    ids = ("session", "job", "roster")
    if any(getattr(advert, name) != getattr(agreement, name) for name in ids):
        raise ReplayError(
            f"the key of site {advert.member} is of another session or job, or of another roster; "
            "compare the site's roster with the coordinator's"
        )
    verify(members[advert.member], advert.signed(), advert.signature)


def check_agreed(manifest: Manifest, agreement: Agreement) -> None:
    """Check that a manifest is about what was agreed on.

    Raises:
        FloorError: when it lowers the threshold.
        ProtocolError: naming what else differs.
    """
    if manifest.version != VERSION:
        raise ProtocolError(f"expected protocol {VERSION!r}, got {manifest.version!r:.40}")
    if manifest.threshold < agreement.threshold:
        raise FloorError(
            f"the manifest lowers the threshold from {agreement.threshold} to {manifest.threshold}"
        )
    for name in _AGREED:
        asked, known = getattr(manifest, name), getattr(agreement, name)
        if asked != known:
            raise ProtocolError(
                f"the manifest's {name} isn't what was agreed on: expected {known!s:.20}, got "
                f"{asked!s:.20}"
            )
    if not (manifest.round <= agreement.rounds and manifest.attempt <= agreement.attempts):
        raise ProtocolError(
            f"the job has rounds 1 to {agreement.rounds} of at most {agreement.attempts} attempts, "
            f"this is round {manifest.round}, attempt {manifest.attempt}"
        )


def pledge(attempt: bytes, takers: Sequence[int], vector: str) -> bytes:
    """Return what a site signs with its masked vector: for whom it has masked, and which it is.

    Whoever holds its shares reveals them only for those very sites. So nobody is unmasked who was
    told of fewer, and has fewer masks on. The vector is there as its SHA-256 (hex): nobody between
    the site and the coordinator can change it.
    """
    return label("upload", attempt, config.canonical(list(takers)), bytes.fromhex(vector))
