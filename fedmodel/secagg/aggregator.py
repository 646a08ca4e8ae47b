"""The coordinator's side of secure aggregation: state machines, bytes in and bytes out.

It learns the sum over the survivors, who dropped out at which stage, and nothing else of a vector.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedmodel import _hazmat
from fedmodel.errors import (
    EquivocationError,
    FloorError,
    ProtocolError,
    QuorumError,
    ReplayError,
)
from fedmodel.secagg import shamir
from fedmodel.secagg.agreement import Agreement
from fedmodel.secagg.blame import Blame
from fedmodel.secagg.checks import check_total, checks, upload_sha256
from fedmodel.secagg.fields import VERSION, only, verify
from fedmodel.secagg.keys import check_advert, graph_of, pledge
from fedmodel.secagg.masking import Sum
from fedmodel.secagg.messages import (
    Advert,
    Consent,
    Deliver,
    Manifest,
    Open,
    Pledge,
    Request,
    Reveal,
    Sealed,
    Shares,
    Survivors,
    Upload,
    decode,
    encode,
)
from fedmodel.secagg.stages import Stages
from fedmodel.secagg.unmasking import Secrets, disagreements

__all__ = ["Aggregator", "Attempt"]

_SEED = 32  # bytes
_SEALED = 12 + 16  # a sealed text's nonce and tag
_BOX = _SEALED + 2 * shamir.SHARE


class Aggregator:
    """One session: the sites' keys, and the attempts that are made with them.

    Args:
        agreement: what was agreed on.
        members: number → Ed25519 public key, from the roster.
        sign: signs by the coordinator's identity.
        blame: what was found out about the sites before; ``None``: nothing.
    """

    def __init__(
        self,
        *,
        agreement: Agreement,
        members: Mapping[int, bytes],
        sign: Callable[[bytes], bytes],
        blame: Blame | None = None,
    ) -> None:
        self.agreement = agreement
        self._members = dict(members)
        self._sign = sign
        self.blame = blame or Blame(agreement.colluders)
        self._adverts: dict[int, Advert] = {}

    def take_advert(self, data: bytes, latest: int | None = None) -> int:
        """Keep a site's key for the session; return the site's number.

        Args:
            data: an ``advert`` message.
            latest: the last round to whose sum a site can have agreed; ``None``: any.

        Raises:
            EquivocationError: when the site gave another key before.
            ProtocolError: when it isn't the site's key for this session, or names a later round.
        """
        advert = decode(Advert, data, len(self._members))
        check_advert(advert, self.agreement, self._members)
        # A key of low order would stop every neighbour; that shows with any private key.
        _hazmat.x25519(bytes(_SEED), bytes.fromhex(advert.key))
        if latest is not None and advert.closed > latest:
            raise ProtocolError(
                f"site {advert.member} says that it has agreed to a sum in round {advert.closed}, "
                f"and this coordinator has asked for none after round {latest}: the run folder is "
                "an older copy, then restore the newest; or the site's state is another run's"
            )
        known = self._adverts.setdefault(advert.member, advert)
        if known != advert:
            raise EquivocationError(f"site {advert.member} has given another key before")
        return advert.member

    def closed(self) -> int:
        """Return the last round that can't be repeated: some honest site has agreed to a sum in it.

        By what more sites say than may collude, or so many that the others are too few for a sum.
        """
        told = sorted((advert.closed for advert in self._adverts.values()), reverse=True)
        enough = min(self.agreement.colluders, max(0, len(told) - self.agreement.survivors))
        return told[enough] if len(told) > enough else 0

    def begin(self, *, round: int, attempt: int, model: str, cohort: Iterable[int]) -> "Attempt":
        """Return a new attempt of a round.

        Args:
            round: of the run.
            attempt: 1, or one more each time that the round is begun again.
            model: SHA-256 (hex) of the parameters that the sites start from.
            cohort: numbers of those who are invited; each has given its key.

        Raises:
            QuorumError: when they are fewer than a sum needs.
            ConfigError: when no graph of the cohort keeps what was agreed on.
            ProtocolError: when a site's key is missing.
        """
        invited = tuple(sorted(set(cohort)))
        least = self.agreement.survivors
        if len(invited) < least:
            raise QuorumError(f"{len(invited)} sites take part, a secure sum needs {least}")
        only((n for n in invited if n in self._adverts), invited, "keys of the cohort")
        agreed = self.agreement
        unsigned = Manifest(
            version=VERSION,
            session=agreed.session,
            job=agreed.job,
            roster=agreed.roster,
            round=round,
            attempt=attempt,
            model=model,
            cohort=invited,
            keys=tuple(self._adverts[n].key for n in invited),
            survivors=agreed.survivors,
            colluders=agreed.colluders,
            threshold=agreed.threshold,
            bits=agreed.bits,
            count=agreed.count,
            signature="0" * 128,
        )
        manifest = replace(unsigned, signature=self._sign(unsigned.signed()).hex())
        adverts = {n: self._adverts[n] for n in invited}
        return Attempt(manifest, adverts, self._members, self.blame)


class Attempt(Stages):
    """One attempt of one round. Its stages follow each other, and each is closed once.

    ``open_for`` · ``take_shares`` · ``close_shares`` · ``deliver_for`` · ``take_upload`` ·
    ``close_uploads`` · ``survivors_message`` · ``take_consent`` · ``close_consents`` ·
    ``request_for`` · ``take_reveal`` · ``total``. What a site sends wrongly raises and changes
    nothing; without that site the stage goes on.

    Args:
        manifest: signed.
        adverts: of the cohort.
        members: number → Ed25519 public key.
        blame: takes whose shares are found to be wrong.
    """

    def __init__(
        self,
        manifest: Manifest,
        adverts: Mapping[int, Advert],
        members: Mapping[int, bytes],
        blame: Blame,
    ) -> None:
        super().__init__(manifest)
        self._blame = blame
        self._graph = graph_of(manifest)
        self._adverts = dict(adverts)
        self._members = dict(members)
        self._sum: Sum | None = None

    # -- shares ----------------------------------------------------------------------------------

    def open_for(self, member: int) -> bytes:
        """Return the ``open`` message for a site."""
        neighbours = self._graph.neighbours(member)
        return encode(
            Open(manifest=self.manifest, adverts=tuple(self._adverts[n] for n in neighbours))
        )

    def take_shares(self, member: int, data: bytes) -> None:
        """Keep a site's shared secrets.

        Raises:
            ReplayError: a second time, or too late.
            ProtocolError: when they aren't as they should be.
        """
        self._check_stage("shares")
        message = decode(Shares, data, len(self._members))
        self._check_sender(member, message.member, message.manifest, self.manifest.cohort)
        if member in self._shares:
            raise ReplayError(f"site {member} has shared its secrets already")
        neighbours = self._graph.neighbours(member)
        only((b.member for b in message.boxes), neighbours, "shares for")
        sizes = {len(b.box) // 2 for b in message.boxes}
        if sizes != {_BOX} or len(message.recovery) // 2 != _SEALED + _SEED * len(neighbours):
            raise ProtocolError(f"what site {member} has sealed isn't of the right size")
        if len(message.pairs) // 2 != _SEED * len(neighbours):
            raise ProtocolError(f"site {member} hasn't one commitment for each neighbour")
        verify(self._members[member], message.signed(), message.signature)
        self._shares[member] = message

    def close_shares(self) -> tuple[int, ...]:
        """Return who takes part: all that have shared, and agree with the others on their masks.

        Raises:
            QuorumError: when they are too few.
        """
        self._check_stage("shares")
        self._leave_out()
        self.takers = self._enough(self._shares, "shared their secrets")
        self._stage = "uploads"
        bits = self.manifest.bits
        self._sum = Sum(self.manifest.count + checks(bits), bits)
        self._boxes = {
            owner: {box.member: box.box for box in shares.boxes}
            for owner, shares in self._shares.items()
        }
        return self.takers

    def _leave_out(self) -> None:
        """Leave out who disagrees with another on their common mask, as of now: none would cancel.

        Nothing was computed by then, and nothing is spent on a sum that would be refused.
        """
        if not (pairs := disagreements(self._graph, self._shares)):
            return
        for one, other in pairs:
            why = f"sites {one} and {other} have committed to different seeds of their common mask"
            self._blame.dispute(one, other, why)
        kept = self._blame.cohort(sorted(self._shares), self.manifest.survivors)
        if any(one in kept and other in kept for one, other in pairs):
            raise QuorumError(f"{why}, and without them too few would be left for a sum")
        self._shares = {n: self._shares[n] for n in kept}

    def deliver_for(self, member: int) -> bytes:
        """Return the ``deliver`` message for a site that takes part."""
        self._check_stage("uploads")
        owners = [n for n in self._graph.neighbours(member) if n in self._shares]
        boxes = tuple(Sealed(member=n, box=self._boxes[n][member]) for n in owners)
        return encode(Deliver(manifest=self.digest.hex(), takers=self.takers, boxes=boxes))

    # -- uploads ---------------------------------------------------------------------------------

    def take_upload(self, member: int, header: bytes, packed: NDArray[np.uint8]) -> None:
        """Add a masked vector to the sum; it isn't kept.

        Raises:
            ReplayError: a second time, or after the site was declared dropped.
            ProtocolError: when it isn't of the right size or attempt, or not what the site has
                signed.
        """
        if self._stage != "uploads":
            raise ReplayError(f"the vector of site {member} comes too late: the sum is without it")
        message = decode(Upload, header, len(self._members))
        self._check_sender(member, message.member, message.manifest, self.takers)
        if member in self._pledges or self._sum is None:
            raise ReplayError(f"site {member} has sent its vector already")
        self._sum.check_upload(packed)
        signed = pledge(self.digest, self.takers, message.vector)
        verify(self._members[member], signed, message.signature)
        if upload_sha256(packed) != message.vector:
            raise ProtocolError(
                f"the vector of site {member} isn't the one that it has signed: it was changed on "
                "the way"
            )
        self._sum.add_upload(packed)
        self._pledges[member] = Pledge(
            member=member, vector=message.vector, signature=message.signature
        )

    def close_uploads(self) -> tuple[int, ...]:
        """Return the survivors: whose vectors are in the sum.

        Raises:
            QuorumError: when they are too few; nothing is unmasked then.
        """
        self._check_stage("uploads")
        survivors = self._enough(self._pledges, "sent a vector")
        try:
            self._graph.check_survivors(survivors)
        except FloorError as error:
            raise QuorumError(str(error)) from error
        self.survivors = survivors
        self._stage = "consents"
        return self.survivors

    # -- consents --------------------------------------------------------------------------------

    def _told(self) -> Survivors:
        return Survivors(manifest=self.digest.hex(), takers=self.takers, survivors=self.survivors)

    def survivors_message(self) -> bytes:
        """Return the ``survivors`` message, the same for each of them."""
        self._check_stage("consents")
        return encode(self._told())

    def take_consent(self, member: int, data: bytes) -> None:
        """Keep a survivor's signature.

        Raises:
            ProtocolError: when it isn't its signature of this set.
        """
        self._check_stage("consents")
        message = decode(Consent, data, len(self._members))
        self._check_sender(member, message.member, self.digest.hex(), self.survivors)
        verify(self._members[member], self._told().signed(), message.signature)
        self._consents[member] = message

    def close_consents(self) -> None:
        """End the stage.

        Raises:
            QuorumError: when fewer have consented than the threshold.
        """
        self._check_stage("consents")
        self._threshold(self._consents, "agreed on the survivors")
        self._stage = "reveals"

    # -- reveals ---------------------------------------------------------------------------------

    def request_for(self, member: int) -> bytes:
        """Return the ``request`` message for a survivor.

        Of the consents as many are sent as are needed: each costs the site a verification.
        """
        self._check_stage("reveals")
        chosen = sorted(self._consents)[: self.manifest.threshold]
        owners = set(self._graph.neighbours(member)) & set(self.survivors)
        return encode(
            Request(
                manifest=self.digest.hex(),
                consents=tuple(self._consents[n] for n in chosen),
                pledges=tuple(self._pledges[n] for n in sorted(owners)),
            )
        )

    def take_reveal(self, member: int, data: bytes) -> None:
        """Keep a survivor's revealed shares.

        Raises:
            ReplayError: a second time.
            ProtocolError: when they aren't those that it holds.
        """
        self._check_stage("reveals")
        message = decode(Reveal, data, len(self._members))
        self._check_sender(member, message.member, message.manifest, self.survivors)
        if member in self._reveals:
            raise ReplayError(f"site {member} has revealed its shares already")
        owners = {n for n in self._graph.holders(member) if n in self._shares}
        survived = set(self.survivors)
        only((s.owner for s in message.self_seeds), owners & survived, "shares of self seeds of")
        only((s.owner for s in message.recovery_keys), owners - survived, "recovery shares of")
        self._reveals[member] = message

    def total(self) -> NDArray[np.int32]:
        """Return the sum of the survivors' vectors, int32 ``[count]``, each centred in the ring.

        Raises:
            QuorumError: when too few shares were revealed.
            ProtocolError: when they don't make the secrets that were committed to, or the sum isn't
                that of the survivors' vectors (:mod:`fedmodel.secagg.checks`).
        """
        self._check_stage("reveals")
        self._threshold(self._reveals, "revealed their shares")
        if self._sum is None:
            raise ReplayError("nothing was uploaded")
        found = Secrets(
            self.digest,
            self._graph,
            self._shares,
            self._reveals,
            blame=self._blame,
            colluders=self.manifest.colluders,
        )
        add: list[bytes] = []
        subtract: list[bytes] = [found.secret("self", n) for n in self.survivors]
        survived = set(self.survivors)
        for dropped in sorted(set(self.takers) - survived):
            for other, seed in found.mask_seeds(dropped).items():
                # A survivor added this mask where the dropped site's number is above its own.
                if other in survived:
                    (subtract if dropped > other else add).append(seed)
        self._sum.unmask(add=add, subtract=subtract)
        self._stage = "done"
        unmasked, self._sum = self._sum.taken(), None
        return check_total(unmasked, len(self.survivors), self.manifest.bits, self.digest)
