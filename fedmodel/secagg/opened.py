"""An attempt that is open at a site: what the site knows of it, and how it shares its secrets."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fedmodel import _hazmat
from fedmodel.secagg import shamir
from fedmodel.secagg.fields import label
from fedmodel.secagg.graph import Graph
from fedmodel.secagg.keys import commitment, pair_commitment, recovery_key
from fedmodel.secagg.manifest import Manifest
from fedmodel.secagg.messages import Sealed, Shares, Survivors, encode
from fedmodel.secagg.peers import Peers
from fedmodel.seeds import Entropy

__all__ = ["Opened", "share"]

_SECRET = 32  # bytes


@dataclass(slots=True)
class Opened:
    """What a site knows of the attempt that is open.

    Args:
        manifest: of the attempt.
        digest: of the manifest.
        graph: of the attempt.
        seeds: neighbour → seed of their common mask.
        self_seed: of the mask that only this site knows.
        stage: what the site has answered last.
        takers: who takes part, once it was told.
        held: owner → its two shares.
        told: the survivors that it has signed.
        vector: SHA-256 (hex) of what it has uploaded.
    """

    manifest: Manifest
    digest: bytes
    graph: Graph
    seeds: dict[int, bytes]
    self_seed: bytes
    stage: str = "shared"
    takers: tuple[int, ...] = ()
    held: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    told: Survivors | None = None
    vector: str = ""


def share(
    attempt: Opened, member: int, peers: Peers, sign: Callable[[bytes], bytes], entropy: Entropy
) -> bytes:
    """Share a site's self seed and a new recovery key; return its ``shares`` message.

    Args:
        attempt: that was just opened; it keeps the site's own shares.
        member: the site's number.
        peers: whom it shares them with.
        sign: signs by the site's identity.
        entropy: of the recovery key, the shares and the envelopes.
    """
    recovery = entropy.bytes(_SECRET)
    holders, threshold = attempt.graph.holders(member), attempt.graph.threshold
    selves = shamir.split(attempt.self_seed, threshold, holders, entropy)
    keys = shamir.split(recovery, threshold, holders, entropy)
    attempt.held[member] = (selves[member], keys[member])
    boxes = [
        Sealed(member=n, box=peers.seal(attempt.digest, n, selves[n] + keys[n]).hex())
        for n in holders
        if n != member
    ]
    neighbours = attempt.graph.neighbours(member)
    seeds = b"".join(attempt.seeds[n] for n in neighbours)
    pairs = "".join(
        pair_commitment(attempt.seeds[n], attempt.digest, member, n) for n in neighbours
    )
    kept = _hazmat.aead_seal(
        recovery_key(recovery, attempt.digest, member),
        seeds,
        label("recovery", attempt.digest, member),
        entropy,
    )
    unsigned = Shares(
        manifest=attempt.digest.hex(),
        member=member,
        boxes=tuple(boxes),
        recovery=kept.hex(),
        pairs=pairs,
        self_commitment=commitment("self", attempt.self_seed, attempt.digest, member),
        recovery_commitment=commitment("recovery", recovery, attempt.digest, member),
        signature="0" * 128,
    )
    return encode(replace(unsigned, signature=sign(unsigned.signed()).hex()))
