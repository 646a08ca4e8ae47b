"""A site's key of one session, and the secrets that it shares with the others' keys."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from fedmodel import _hazmat
from fedmodel.errors import AccusationError, EquivocationError, ProtocolError, ReplayError
from fedmodel.secagg.agreement import Agreement
from fedmodel.secagg.fields import label
from fedmodel.secagg.keys import check_advert, pair_seed
from fedmodel.secagg.messages import Advert, Manifest
from fedmodel.seeds import Entropy

__all__ = ["Peers"]

_SECRET = 32  # bytes


class Peers:
    """Who a site can share secrets with. Its key is new in each session, and never written down.

    Args:
        member: the site's number.
        agreement: of the session.
        members: number → Ed25519 public key, from the site's own copy of the roster.
        entropy: where keys and nonces come from.
    """

    def __init__(
        self, member: int, agreement: Agreement, members: Mapping[int, bytes], entropy: Entropy
    ) -> None:
        self._member = member
        self._agreement = agreement
        self._members = dict(members)
        self._entropy = entropy
        self._private = entropy.bytes(_SECRET)
        self._known: dict[int, tuple[str, bytes]] = {}  # member → its key, the shared secret

    def advert(self, sign: Callable[[bytes], bytes], closed: int = 0) -> Advert:
        """Return the site's key, signed.

        Args:
            sign: by the site's identity.
            closed: the last round in which the site has signed a set of survivors.
        """
        agreed = self._agreement
        unsigned = Advert(
            session=agreed.session,
            job=agreed.job,
            roster=agreed.roster,
            member=self._member,
            key=_hazmat.x25519_public(self._private).hex(),
            closed=closed,
            signature="0" * 128,
        )
        return replace(unsigned, signature=sign(unsigned.signed()).hex())

    def learn(self, adverts: Sequence[Advert]) -> None:
        """Verify adverts and agree on secrets with their senders, once each; all of them or none.

        Raises:
            EquivocationError: when a site's key is another one than before.
            ReplayError: for a key of another session, job or roster.
            ProtocolError: for a site that isn't in the roster, or a wrong signature or key.
        """
        found: dict[int, tuple[str, bytes]] = {}
        for advert in adverts:
            if advert.member == self._member:
                continue
            check_advert(advert, self._agreement, self._members)
            known = self._known.get(advert.member) or found.get(advert.member)
            if known is None:
                found[advert.member] = (advert.key, self._agree(advert))
            elif known[0] != advert.key:
                raise EquivocationError(
                    f"site {advert.member} has another key than before in this session"
                )
        self._known |= found

    def _agree(self, advert: Advert) -> bytes:
        try:
            return _hazmat.x25519(self._private, bytes.fromhex(advert.key))
        except ProtocolError as error:
            raise ProtocolError(f"site {advert.member}: {error}") from error

    def check_keys(self, manifest: Manifest, neighbours: Iterable[int]) -> None:
        """Check that a manifest is of this very joining: it has this site's key, and those learnt.

        So a site that joins again under the same name of a session signs for another manifest.

        Raises:
            ReplayError: when this site's key is another one.
            EquivocationError: when a neighbour's is.
        """
        keys = dict(zip(manifest.cohort, manifest.keys, strict=True))
        if keys.get(self._member) != _hazmat.x25519_public(self._private).hex():
            raise ReplayError(
                "the manifest is of an earlier joining: it has another key of this site"
            )
        for n in neighbours:
            if n in self._known and keys[n] != self._known[n][0]:
                raise EquivocationError(f"the manifest has another key of site {n} than its advert")

    def seeds(self, attempt: bytes, neighbours: Iterable[int]) -> dict[int, bytes]:
        """Return neighbour → seed of the mask in common with it in an attempt.

        Raises:
            ProtocolError: when a neighbour's key isn't known.
        """
        wanted = tuple(neighbours)
        missing = [n for n in wanted if n not in self._known]
        if missing:
            raise ProtocolError(f"the keys of neighbours {missing[:8]} are missing")
        return {n: pair_seed(self._known[n][1], attempt, self._member, n) for n in wanted}

    def seal(self, attempt: bytes, holder: int, shares: bytes) -> bytes:
        """Return shares of this site's secrets in an envelope for their holder."""
        purpose = label("share", attempt, self._member, holder)
        key = _hazmat.hkdf(self._known[holder][1], purpose)
        return _hazmat.aead_seal(key, shares, purpose, self._entropy)

    def open(self, attempt: bytes, owner: int, box: bytes) -> bytes:
        """Return the shares of an owner's secrets that this site is to hold.

        Raises:
            AccusationError: when the envelope isn't the owner's for this site and attempt; the
                owner is named, so that a cohort can be made without it.
        """
        purpose = label("share", attempt, owner, self._member)
        key = _hazmat.hkdf(self._known[owner][1], purpose)
        try:
            return _hazmat.aead_open(key, box, purpose)
        except ProtocolError as error:
            raise AccusationError(owner, str(error)) from error
