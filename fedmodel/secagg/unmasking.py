"""The secrets that revealed shares make, held against what their owners committed to."""

from collections.abc import Mapping

from fedmodel import _hazmat
from fedmodel.errors import ProtocolError, QuorumError
from fedmodel.secagg.blame import Blame
from fedmodel.secagg.decoding import decode_shares
from fedmodel.secagg.fields import label
from fedmodel.secagg.graph import Graph
from fedmodel.secagg.keys import commitment, recovery_key
from fedmodel.secagg.messages import Reveal, Shares

__all__ = ["Secrets"]

_SEED = 32  # bytes


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
            self.blame.prove(owner, why)
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
        return {n: seeds[_SEED * i : _SEED * (i + 1)] for i, n in enumerate(neighbours)}
