"""The secrets that revealed shares make, held against what their owners committed to."""

from collections.abc import Mapping

from fedmodel import _hazmat
from fedmodel.errors import ProtocolError, QuorumError
from fedmodel.secagg.blame import Blame
from fedmodel.secagg.decoding import decode_shares
from fedmodel.secagg.fields import label
from fedmodel.secagg.graph import Graph
from fedmodel.secagg.keys import commitment, pair_commitment, recovery_key
from fedmodel.secagg.messages import Reveal, Shares

__all__ = ["Secrets", "committed_pairs", "disagreements"]

_SEED = 32  # bytes
_COMMITMENT = 64  # hex digits


class Secrets:
    """What a coordinator can work out once an attempt's shares are revealed.

    Args:
        attempt: digest of the manifest.
        graph: of the attempt.
        shares: owner → what it had shared.
        reveals: holder → what it has revealed.
        colluders: so many holders may lie.
        blame: takes who is found to be wrong.
    """

    def __init__(
        self,
        attempt: bytes,
        graph: Graph,
        shares: Mapping[int, Shares],
        reveals: Mapping[int, Reveal],
        *,
        colluders: int,
        blame: Blame,
    ) -> None:
        self._attempt = attempt
        self._graph = graph
        self._given = shares
        self._colluders = colluders
        self._suspects: set[int] = set()
        self.blame = blame
        self._shares: dict[tuple[str, int], dict[int, bytes]] = {}
        for holder, reveal in reveals.items():
            for purpose, parts in (
                ("self", reveal.self_seeds),
                ("recovery", reveal.recovery_keys),
            ):
                for part in parts:
                    known = self._shares.setdefault((purpose, part.owner), {})
                    known[holder] = bytes.fromhex(part.share)

    def secret(self, purpose: str, owner: int) -> bytes:
        """Return an owner's self seed (``self``) or recovery key (``recovery``).

        Raises:
            QuorumError: when too few shares of it were revealed.
            ProtocolError: when they don't make what the owner has committed to.
        """
        shares, threshold = self._shares.get((purpose, owner), {}), self._graph.threshold
        if len(shares) < threshold:
            raise QuorumError(
                f"{len(shares)} shares of site {owner}'s secret were revealed, {threshold} are "
                "needed; the sum stays masked"
            )
        given = self._given[owner]
        expected = given.self_commitment if purpose == "self" else given.recovery_commitment

        def is_right(secret: bytes) -> bool:
            return commitment(purpose, secret, self._attempt, owner) == expected

        found = decode_shares(shares, threshold, is_right, self._suspects)
        if found is not None and found.right and found.secret is not None:
            for holder in found.wrong:
                self._suspects.add(holder)
                self.blame.dispute(
                    owner, holder, f"site {holder}'s share of site {owner}'s secret is wrong"
                )
            return found.secret
        why = f"the revealed shares of site {owner} don't make the secret that it committed to"
        # So many agree that some of them are honest, whoever lies: it was shared like that.
        if found is not None and found.agreeing >= threshold + self._colluders:
            self.blame.spoilt(owner, why)
        raise ProtocolError(f"{why}; the sum stays masked")

    def mask_seeds(self, member: int) -> dict[int, bytes]:
        """Return a dropped site's neighbours and the seeds of its masks with them.

        Raises:
            QuorumError: as :meth:`secret`; so does a ProtocolError come about.
        """
        key = recovery_key(self.secret("recovery", member), self._attempt, member)
        kept = bytes.fromhex(self._given[member].recovery)
        try:
            seeds = _hazmat.aead_open(key, kept, label("recovery", self._attempt, member))
        except ProtocolError as error:
            self.blame.prove(member, "the mask seeds that it had left don't open")
            raise ProtocolError(
                f"site {member} dropped out, and the mask seeds that it had left don't open; the "
                "sum stays masked. Leave this site out"
            ) from error
        neighbours = self._graph.neighbours(member)
        if len(seeds) != _SEED * len(neighbours):
            raise ProtocolError(f"site {member} kept {len(seeds)} bytes of seeds")
        found = {n: seeds[_SEED * i : _SEED * (i + 1)] for i, n in enumerate(neighbours)}
        committed = committed_pairs(self._graph, self._given[member])
        for n, seed in found.items():
            if pair_commitment(seed, self._attempt, member, n) != committed[n]:
                why = "the mask seeds that it had left aren't those that it had committed to"
                self.blame.prove(member, why)
                raise ProtocolError(
                    f"site {member} dropped out, and {why}; the sum stays masked. Leave this site "
                    "out"
                )
        return found


def committed_pairs(graph: Graph, shares: Shares) -> dict[int, str]:
    """Return a site's neighbours and its commitments to the seeds of their common masks.

    Args:
        graph: of the attempt.
        shares: of the site; of the right size.
    """
    digits = _COMMITMENT
    return {
        n: shares.pairs[digits * i : digits * (i + 1)]
        for i, n in enumerate(graph.neighbours(shares.member))
    }


def disagreements(graph: Graph, shares: Mapping[int, Shares]) -> list[tuple[int, int]]:
    """Return the pairs of sites that have committed to different seeds of their common mask.

    One of the two is wrong, and their masks wouldn't cancel.

    Args:
        graph: of the attempt.
        shares: owner → what it had shared.
    """
    committed = {n: committed_pairs(graph, message) for n, message in shares.items()}
    return [
        (one, other)
        for one, pairs in sorted(committed.items())
        for other, name in pairs.items()
        if one < other and other in committed and committed[other][one] != name
    ]
