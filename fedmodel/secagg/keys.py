"""What an attempt's graph, seeds, keys and commitments are derived from."""

import hashlib
from collections.abc import Iterable

from fedmodel import _hazmat
from fedmodel.errors import FloorError
from fedmodel.secagg.fields import label
from fedmodel.secagg.graph import Graph, make_graph
from fedmodel.secagg.messages import Manifest

__all__ = ["check_holders", "commitment", "graph_of", "pair_seed", "recovery_key"]


def graph_of(manifest: Manifest) -> Graph:
    """Return who masks with whom, and holds whose shares, in a manifest's attempt."""
    seed = label("graph", bytes.fromhex(manifest.session), bytes.fromhex(manifest.roster))
    return make_graph(
        manifest.cohort,
        survivors=manifest.survivors,
        colluders=manifest.colluders,
        threshold=manifest.threshold,
        seed=seed,
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


def check_holders(manifest: Manifest, graph: Graph, member: int, takers: Iterable[int]) -> None:
    """Check that few of those who hold a site's shares are said not to take part.

    The site masks with none of these. If they do take part they can show its self seed; the
    coordinator says afterwards that the others have dropped out, and has all of the site's masks.
    With the colluders they must be fewer than the shares that make a secret. In a complete graph
    they are, by :meth:`fedmodel.secagg.terms.Floors.check`.

    Raises:
        FloorError: when they are too many.
    """
    lost = len(set(graph.holders(member)) - set(takers))
    colluders = manifest.colluders
    if not graph.complete:  # the neighbours are two rows on the ring
        colluders = min(colluders, 2 * graph.colluding)
    if lost + colluders >= graph.threshold:
        raise FloorError(
            f"{lost} sites that hold site {member}'s shares are said to be missing; with "
            f"{colluders} colluders they could unmask it, {graph.threshold} shares do"
        )
