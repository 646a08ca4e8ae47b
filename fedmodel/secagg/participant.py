"""One site's side of secure aggregation: a state machine, bytes in and bytes out.

Double masking (Bonawitz et al. 2017, ePrint 2017/281) with these corrections: X25519 keys are
agreed on once per session and signed by the sites' identities under a roster; each attempt's seeds
are derived from a signed manifest that names the model and the cohort; what a dropped site's masks
are recovered with is drawn anew for each attempt, so it opens no other; nothing is revealed before
enough sites have signed the same set of survivors; and floors of the site's own hold whatever the
coordinator asks for.

What a check refuses leaves the state as it was. An attempt that was opened never opens again.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmodel.errors import (
    AccusationError,
    EquivocationError,
    FloorError,
    ProtocolError,
    ReplayError,
)
from fedmodel.secagg.agreement import Agreement, Floors
from fedmodel.secagg.checks import Checked, upload_sha256
from fedmodel.secagg.closing import ClosedInMemory, Closing, check_open
from fedmodel.secagg.fields import only, verify
from fedmodel.secagg.keys import check_agreed, graph_of, pledge
from fedmodel.secagg.masking import Encode, mask
from fedmodel.secagg.messages import (
    Consent,
    Deliver,
    Manifest,
    Open,
    Pledge,
    Request,
    Reveal,
    Share,
    Survivors,
    Upload,
    decode,
    digest,
    encode,
)
from fedmodel.secagg.opened import Opened, share
from fedmodel.secagg.peers import Peers
from fedmodel.secagg.shamir import SHARE, in_field
from fedmodel.seeds import Entropy

__all__ = ["Participant"]

_SECRET = 32  # bytes


class Participant:
    """A site in one session. Its X25519 key and all secrets live in memory only.

    Args:
        member: the site's number in the roster.
        agreement: what the site has agreed to.
        members: number → Ed25519 public key, from the site's own copy of the roster.
        coordinator: Ed25519 public key of the coordinator, from there too.
        floors: the site's own.
        sign: signs by the site's identity.
        entropy: where keys, seeds and shares come from.
        closing: remembers the last round of the job in which the site has signed a set of
            survivors, in this session or any other: it signs one set a round, so that no second
            sum with its update can be unmasked.

    Raises:
        FloorError: when what was agreed on is below the site's floors.
        ProtocolError: for a site that isn't in the roster.
    """

    def __init__(
        self,
        *,
        member: int,
        agreement: Agreement,
        members: Mapping[int, bytes],
        coordinator: bytes,
        floors: Floors,
        sign: Callable[[bytes], bytes],
        entropy: Entropy,
        closing: Closing | None = None,
    ) -> None:
        if member not in members:
            raise ProtocolError(f"this site's number {member} isn't in the roster")
        floors.check_agreed(agreement)
        self.member = member
        self.agreement = agreement
        self._members = dict(members)
        self._coordinator = coordinator
        self._floors = floors
        self._sign = sign
        self._entropy = entropy
        self._peers = Peers(member, agreement, members, entropy)
        self._last = (0, 0)  # round and attempt that was opened last
        self._closing = ClosedInMemory() if closing is None else closing
        self._attempt: Opened | None = None

    def __repr__(self) -> str:
        return f"Participant({self.member})"

    def advert(self) -> bytes:
        """Return the site's signed key for this session."""
        return encode(self._peers.advert(self._sign, self.closed))

    @property
    def closed(self) -> int:
        """The last round of the job in which the site has signed a set of survivors; 0: none."""
        return self._closing.last()

    @property
    def manifest(self) -> Manifest:
        """The manifest of the attempt that was opened last.

        Raises:
            ReplayError: when none was.
        """
        if self._attempt is None:
            raise ReplayError("no attempt is open at this site")
        return self._attempt.manifest

    # -- opening an attempt ----------------------------------------------------------------------

    def open(self, data: bytes) -> bytes:
        """Begin an attempt: check its manifest, and share what would unmask this site's part.

        Args:
            data: an ``open`` message.

        Returns:
            A ``shares`` message.

        Raises:
            ReplayError: for an attempt that isn't newer than the last, or of a closed round.
            FloorError: for one below the site's floors.
            EquivocationError: when a site's key is another one than before.
            ProtocolError: when it isn't what was agreed on, or a signature or key isn't right.
        """
        message = decode(Open, data, len(self._members))
        manifest = message.manifest
        self._check_manifest(manifest)
        graph = graph_of(manifest)
        self._peers.learn(message.adverts)
        self._peers.check_keys(manifest, graph.neighbours(self.member))
        name = digest(manifest)
        seeds = self._peers.seeds(name, graph.neighbours(self.member))
        self._last = (manifest.round, manifest.attempt)
        self._attempt = Opened(manifest, name, graph, seeds, self._entropy.bytes(_SECRET))
        return share(self._attempt, self.member, self._peers, self._sign, self._entropy)

    def _check_manifest(self, manifest: Manifest) -> None:
        verify(self._coordinator, manifest.signed(), manifest.signature)
        check_agreed(manifest, self.agreement)
        unknown = [n for n in manifest.cohort if n not in self._members]
        if unknown:
            raise ProtocolError(f"sites {unknown[:8]} of the cohort aren't in the roster")
        if self.member not in manifest.cohort:
            raise ProtocolError(f"site {self.member} isn't in the cohort it was sent")
        self._floors.check(
            cohort=len(manifest.cohort),
            survivors=manifest.survivors,
            threshold=manifest.threshold,
            colluders=manifest.colluders,
        )
        self._check_new(manifest)

    def _check_new(self, manifest: Manifest) -> None:
        if (manifest.round, manifest.attempt) <= self._last:
            raise ReplayError(
                f"round {manifest.round}, attempt {manifest.attempt} isn't after round "
                f"{self._last[0]}, attempt {self._last[1]}, which this site has opened"
            )
        check_open(manifest.round, self.closed)

    # -- the masked upload -----------------------------------------------------------------------

    def deliver(self, data: bytes) -> None:
        """Take the others' shares: after this the site can mask.

        Args:
            data: a ``deliver`` message.

        Raises:
            FloorError: when too few sites are left.
            ReplayError: for another attempt than the open one, or a second time.
            ProtocolError: when an envelope is missing.
            AccusationError: when one doesn't open, or holds something else than shares.
        """
        message = decode(Deliver, data, len(self._members))
        attempt = self._at("shared", message.manifest)
        self._check_subset(message.takers, attempt.manifest.cohort, "takers", attempt)
        owners = [n for n in attempt.graph.neighbours(self.member) if n in set(message.takers)]
        only((box.member for box in message.boxes), owners, "shares from")
        held = {}
        for box in message.boxes:
            opened = self._peers.open(attempt.digest, box.member, bytes.fromhex(box.box))
            if len(opened) != 2 * SHARE:
                raise AccusationError(box.member, f"{len(opened)} bytes, not two shares")
            held[box.member] = (opened[:SHARE], opened[SHARE:])
            if not all(map(in_field, held[box.member])):
                raise AccusationError(box.member, "a number beyond the field, so no share")
        attempt.takers = message.takers
        attempt.held |= held
        attempt.stage = "delivered"

    def upload(self, values: Encode) -> tuple[bytes, NDArray[np.uint8]]:
        """Mask the site's vector, once.

        Args:
            values: writes the ring elements ``start`` to ``stop`` into the array it is given.

        Returns:
            An ``upload`` header, and the packed masked vector.

        Raises:
            ReplayError: a second time, or before the shares were delivered.
        """
        attempt = self._at("delivered")
        # Set first: whatever fails below, other data are never masked alike.
        attempt.stage = "uploaded"
        peers = [n for n in attempt.seeds if n in set(attempt.takers)]
        manifest = attempt.manifest
        checked = Checked(values, manifest.count, manifest.bits, attempt.digest)
        packed = mask(
            checked,
            checked.count,
            manifest.bits,
            add=[attempt.self_seed, *(attempt.seeds[n] for n in peers if n > self.member)],
            subtract=[attempt.seeds[n] for n in peers if n < self.member],
        )
        attempt.self_seed = b""
        attempt.seeds.clear()
        attempt.vector = upload_sha256(packed)
        signed = pledge(attempt.digest, attempt.takers, attempt.vector)
        header = Upload(
            manifest=attempt.digest.hex(),
            member=self.member,
            vector=attempt.vector,
            signature=self._sign(signed).hex(),
        )
        return encode(header), packed

    # -- unmasking -------------------------------------------------------------------------------

    def consent(self, data: bytes) -> bytes:
        """Sign the set of survivors, once: no honest site signs two sets in one round.

        The round is closed before: who has signed takes part in no other attempt of it. Closing it
        with the reveal wouldn't do. Of many sites a few reveal enough in a sparse graph, and the
        others, who have signed too, would be enough for a second sum with the same updates.

        Args:
            data: a ``survivors`` message.

        Returns:
            A ``consent`` message.

        Raises:
            FloorError: when they are too few, or some of them would be cut off from the others.
            EquivocationError: when it doesn't fit what the site was told before.
            ReplayError: a second time, for another attempt, or when the round is closed: in
                another session, perhaps.
        """
        message = decode(Survivors, data, len(self._members))
        attempt = self._at("uploaded", message.manifest)
        if message.takers != attempt.takers:
            raise EquivocationError(
                "the sites that take part differ from those this site was told of when it masked"
            )
        self._check_subset(message.survivors, attempt.takers, "survivors", attempt)
        attempt.graph.check_survivors(message.survivors)
        self._closing.close(attempt.manifest.round)
        attempt.told = message
        attempt.stage = "consented"
        signature = self._sign(message.signed()).hex()
        return encode(Consent(member=self.member, signature=signature))

    def reveal(self, data: bytes) -> bytes:
        """Reveal shares that unmask the sum over the survivors, once.

        Args:
            data: a ``request`` message.

        Returns:
            A ``reveal`` message: of each owner a share of one kind only, of the self seed if it
            survived, of the recovery key if it didn't.

        Raises:
            EquivocationError: when fewer than the threshold have signed the set that this site
                was told of.
            ReplayError: a second time, or for another attempt.
            ProtocolError: for a signature that isn't right or isn't a survivor's.
        """
        message = decode(Request, data, len(self._members))
        attempt = self._at("consented", message.manifest)
        if (told := attempt.told) is None:
            raise ReplayError("this site was told of no survivors")
        self._check_consents(message.consents, told, attempt.manifest.threshold)
        survived = set(told.survivors)
        self._check_pledges(message.pledges, attempt, survived)
        if self.closed != attempt.manifest.round:
            raise ReplayError(
                f"this site has closed round {attempt.manifest.round}, and now round {self.closed} "
                "is the last: another session of the job is going on"
            )
        attempt.stage = "revealed"
        held = sorted(attempt.held.items())
        selves = [Share(owner=n, share=s.hex()) for n, (s, _) in held if n in survived]
        keys = [Share(owner=n, share=k.hex()) for n, (_, k) in held if n not in survived]
        attempt.held.clear()
        return encode(
            Reveal(
                manifest=message.manifest,
                member=self.member,
                self_seeds=tuple(selves),
                recovery_keys=tuple(keys),
            )
        )

    def _check_consents(self, consents: Sequence[Consent], told: Survivors, threshold: int) -> None:
        signed = told.signed()
        for consent in consents:
            if consent.member not in told.survivors:
                raise ProtocolError(f"site {consent.member} consents, but is no survivor")
            try:
                verify(self._members[consent.member], signed, consent.signature)
            except ProtocolError as error:
                raise EquivocationError(
                    f"site {consent.member} hasn't signed the survivors that this site was told of"
                ) from error
        if len(consents) < threshold:
            raise EquivocationError(
                f"{len(consents)} sites have agreed on the survivors, {threshold} must before "
                "anything is revealed"
            )

    def _check_pledges(
        self, pledges: Sequence[Pledge], attempt: Opened, survived: set[int]
    ) -> None:
        given = {p.member: p for p in pledges}
        nothing = Pledge(member=self.member, vector="0" * 64, signature="0" * 128)
        for owner in sorted((attempt.held.keys() & survived) - {self.member}):
            try:
                found = given.get(owner, nothing)
                signed = pledge(attempt.digest, attempt.takers, found.vector)
                verify(self._members[owner], signed, found.signature)
            except ProtocolError as error:
                raise EquivocationError(
                    f"site {owner} hasn't signed that it masked for the sites that this one was "
                    "told of, so its self seed isn't shown"
                ) from error

    # -- common ----------------------------------------------------------------------------------

    def _at(self, stage: str, manifest: str | None = None) -> Opened:
        """Return the open attempt, if it is at a stage (and is the one that is meant)."""
        attempt = self._attempt
        if attempt is None:
            raise ReplayError("no attempt is open at this site")
        if manifest is not None and manifest != attempt.digest.hex():
            raise ReplayError(
                f"the message is of another attempt than the open one (round {self._last[0]}, "
                f"attempt {self._last[1]})"
            )
        if attempt.stage != stage:
            raise ReplayError(
                f"this site's attempt is '{attempt.stage}', the message is for one that is "
                f"'{stage}': each stage is answered once"
            )
        return attempt

    def _check_subset(
        self, part: Sequence[int], whole: Sequence[int], what: str, attempt: Opened
    ) -> None:
        unknown = sorted(set(part) - set(whole))
        if unknown:
            raise ProtocolError(f"the {what} {unknown[:8]} weren't among those before")
        if self.member not in part:
            raise ProtocolError(f"this site isn't among the {what} that it was told of")
        least = max(attempt.manifest.survivors, self._floors.least("survivors"))
        if len(part) < least:
            raise FloorError(f"{len(part)} {what} are left, {least} are needed in a secure sum")
