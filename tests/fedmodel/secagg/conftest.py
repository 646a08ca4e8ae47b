"""A session of sites and a coordinator, every step of which a test can bend."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmodel import _hazmat
from fedmodel.secagg import shamir
from fedmodel.secagg.aggregator import Aggregator, Attempt
from fedmodel.secagg.agreement import Agreement, Floors
from fedmodel.secagg.checks import checks
from fedmodel.secagg.closing import ClosedInMemory
from fedmodel.secagg.fields import label
from fedmodel.secagg.keys import pledge, recovery_key
from fedmodel.secagg.masking import Encode, Sum
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
    decode,
    encode,
)
from fedmodel.secagg.participant import Participant
from fedmodel.seeds import Entropy

MODEL = "2" * 64
UPLOADED = ("uploaded", "consented", "revealed")
STAGES = ("shares", "upload", "consent", "reveal")
Vector = NDArray[np.integer[Any]]


class Dice(Entropy):
    """Bytes that follow from a seed."""

    def __init__(self, *seed: object) -> None:
        self._state = hashlib.sha256(repr(seed).encode()).digest()

    def bytes(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            self._state = hashlib.sha256(self._state).digest()
            out += self._state
        return out[:count]


def writer(vector: Vector) -> Encode:
    """Return what hands a vector to a mask, piece by piece."""

    def encode_tile(start: int, stop: int, out: NDArray[np.uint32]) -> None:
        out[:] = (vector[start:stop] & 0xFFFFFFFF).astype(np.uint32)

    return encode_tile


@dataclass
class View:
    """All that one attempt's coordinator gets to see, honest or not."""

    shares: dict[int, bytes] = field(default_factory=dict)
    uploads: dict[int, tuple[bytes, NDArray[np.uint8]]] = field(default_factory=dict)
    consents: dict[int, bytes] = field(default_factory=dict)
    reveals: dict[int, bytes] = field(default_factory=dict)


class World:
    """Sites and a coordinator that share a session.

    Args:
        sites: how many there are.
        site_class: of the sites; a class that lacks a check shows what the check is for.
        extra: members of the roster beyond those that are in the cohort.
        seed: of all keys and secrets.
        floors: of all sites.
        closed: last round in which the sites have signed survivors before.
        others: of the agreement.
    """

    def __init__(
        self,
        sites: int = 5,
        *,
        site_class: type[Participant] = Participant,
        extra: int = 0,
        seed: object = 0,
        floors: Floors | None = None,
        survivors: int | None = None,
        colluders: int = 0,
        threshold: int | None = None,
        bits: int = 24,
        count: int = 40,
        rounds: int = 5,
        attempts: int = 2,
        closed: int = 0,
    ) -> None:
        everyone = range(1, sites + extra + 1)
        self.numbers = tuple(range(1, sites + 1))
        dice = Dice("world", seed)
        keys = {n: _hazmat.ed25519(dice.bytes(32)) for n in everyone}
        self.members = {n: public for n, (public, _) in keys.items()}
        self.signers = {n: sign for n, (_, sign) in keys.items()}
        self.coordinator_key, self.sign = _hazmat.ed25519(dice.bytes(32))
        least = (sites + colluders) // 2 + 1 if threshold is None else threshold
        self.agreement = Agreement(
            session=dice.bytes(32).hex(),
            job="0" * 64,
            roster="1" * 64,
            rounds=rounds,
            attempts=attempts,
            survivors=max(least, 3 + colluders) if survivors is None else survivors,
            colluders=colluders,
            threshold=least,
            bits=bits,
            count=count,
        )
        self.floors = Floors() if floors is None else floors
        self.closed = closed
        self.sites = {n: self.site(n, site_class, seed=seed) for n in self.numbers}
        self.coordinator = self.make_coordinator()
        self.adverts = {n: site.advert() for n, site in self.sites.items()}
        for advert in self.adverts.values():
            self.coordinator.take_advert(advert)

    view = View
    writer = staticmethod(writer)
    dice = Dice

    def site(
        self, number: int, site_class: type[Participant] = Participant, *, seed: object = 0
    ) -> Participant:
        return site_class(
            member=number,
            agreement=self.agreement,
            members=self.members,
            coordinator=self.coordinator_key,
            floors=self.floors,
            sign=self.signers[number],
            entropy=Dice("site", seed, number),
            closing=ClosedInMemory(self.closed),
        )

    def make_coordinator(self) -> Aggregator:
        return Aggregator(agreement=self.agreement, members=self.members, sign=self.sign)

    def vectors(self, seed: int = 0, bits: int | None = None) -> dict[int, Vector]:
        """Return each site's ring vector: any element, or numbers of fewer bits."""
        rng = np.random.default_rng(seed)
        top = 1 << (self.agreement.bits if bits is None else bits)
        count = self.agreement.count
        return {n: rng.integers(0, top, count, dtype=np.int64) for n in self.numbers}

    def ring_sum(self, vectors: Mapping[int, Vector], among: Iterable[int]) -> Vector:
        """Return the sum in Python's own integers, centred: what a secure sum must come to."""
        ring = 1 << self.agreement.bits
        columns = zip(*(vectors[n].tolist() for n in among), strict=True)
        totals = [sum(column) % ring for column in columns]
        return np.array([t - ring if t >= ring // 2 else t for t in totals], np.int64)

    def centred(self, vector: Vector) -> Vector:
        return self.ring_sum({0: vector}, (0,))

    # -- stages of an honest attempt, for the sites that are left --------------------------------

    def begin(
        self,
        *,
        round: int = 1,
        attempt: int = 1,
        model: str = MODEL,
        cohort: Collection[int] | None = None,
    ) -> Attempt:
        invited = self.numbers if cohort is None else cohort
        return self.coordinator.begin(round=round, attempt=attempt, model=model, cohort=invited)

    def share(self, attempt: Attempt, but: Collection[int] = (), view: View | None = None) -> None:
        for n in attempt.manifest.cohort:
            shares = self.sites[n].open(attempt.open_for(n))
            if n not in but:
                attempt.take_shares(n, shares)
                if view is not None:
                    view.shares[n] = shares
        attempt.close_shares()

    def upload(
        self,
        attempt: Attempt,
        vectors: Mapping[int, Vector],
        but: Collection[int] = (),
        view: View | None = None,
    ) -> dict[int, tuple[bytes, NDArray[np.uint8]]]:
        """Mask at all takers; what sites ``but`` send is returned only: it comes too late."""
        late = {}
        for n in attempt.takers:
            self.sites[n].deliver(attempt.deliver_for(n))
            sent = self.sites[n].upload(writer(vectors[n]))
            if view is not None:
                view.uploads[n] = sent
            if n in but:
                late[n] = sent
            else:
                attempt.take_upload(n, *sent)
        attempt.close_uploads()
        return late

    def consent(
        self, attempt: Attempt, but: Collection[int] = (), view: View | None = None
    ) -> None:
        for n in attempt.survivors:
            if n not in but:
                consent = self.sites[n].consent(attempt.survivors_message())
                attempt.take_consent(n, consent)
                if view is not None:
                    view.consents[n] = consent
        attempt.close_consents()

    def reveal(self, attempt: Attempt, but: Collection[int] = (), view: View | None = None) -> None:
        for n in attempt.survivors:
            if n not in but:
                reveal = self.sites[n].reveal(attempt.request_for(n))
                attempt.take_reveal(n, reveal)
                if view is not None:
                    view.reveals[n] = reveal

    def play(
        self,
        vectors: Mapping[int, Vector],
        *,
        round: int = 1,
        attempt: int = 1,
        cohort: Collection[int] | None = None,
        drops: Mapping[str, Collection[int]] | None = None,
        view: View | None = None,
    ) -> tuple[Attempt, Vector]:
        """Play an attempt; ``drops`` says who falls silent at which of its four stages."""
        gone = {stage: set((drops or {}).get(stage, ())) for stage in STAGES}
        made = self.begin(round=round, attempt=attempt, cohort=cohort)
        self.share(made, gone["shares"], view)
        self.upload(made, vectors, gone["upload"], view)
        self.consent(made, gone["consent"], view)
        self.reveal(made, gone["consent"] | gone["reveal"], view)
        return made, made.total()

    def at(self, stage: str, vectors: Mapping[int, Vector] | None = None) -> Attempt:
        """Return an attempt in which all sites have answered the stages before this one."""
        made = self.begin()
        steps: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("shares", lambda: self.share(made)),
            ("upload", lambda: self.upload(made, vectors or self.vectors())),
            ("consent", lambda: self.consent(made)),
            ("reveal", lambda: self.reveal(made)),
        )
        for name, step in steps:
            if name == stage:
                break
            step()
        return made

    # -- the messages of a coordinator that makes up its own -------------------------------------

    def open_message(self, manifest: Manifest, adverts: Mapping[int, bytes] | None = None) -> bytes:
        known = self.adverts | dict(adverts or {})
        found = tuple(decode(Advert, known[n]) for n in manifest.cohort if n in known)
        return encode(Open(manifest=manifest, adverts=found))

    def deliver_message(
        self, attempt: Attempt, view: View, member: int, takers: Iterable[int]
    ) -> bytes:
        """Return a site's shares from those whom the site shall believe to take part."""
        told = tuple(sorted(takers))
        boxes = []
        for owner in attempt._graph.neighbours(member):
            if owner in told:
                shares = decode(Shares, view.shares[owner])
                (box,) = [b.box for b in shares.boxes if b.member == member]
                boxes.append(Sealed(member=owner, box=box))
        return encode(Deliver(manifest=attempt.digest.hex(), takers=told, boxes=tuple(boxes)))

    def told(self, attempt: Attempt, takers: Iterable[int], survivors: Iterable[int]) -> bytes:
        sets = (tuple(sorted(takers)), tuple(sorted(survivors)))
        return encode(Survivors(manifest=attempt.digest.hex(), takers=sets[0], survivors=sets[1]))

    def request(self, attempt: Attempt, consents: Iterable[bytes]) -> bytes:
        found = sorted((decode(Consent, c) for c in consents), key=lambda c: c.member)
        given = self.pledges(attempt)
        return encode(Request(manifest=attempt.digest.hex(), consents=tuple(found), pledges=given))

    def pledges(self, attempt: Attempt) -> tuple[Pledge, ...]:
        """Return what all sites that have uploaded in an attempt have signed with their vectors."""
        found = []
        for n, site in sorted(self.sites.items()):
            made = site._attempt
            if made is not None and made.digest == attempt.digest and made.stage in UPLOADED:
                signed = pledge(attempt.digest, made.takers, made.vector)
                signature = self.signers[n](signed).hex()
                found.append(Pledge(member=n, vector=made.vector, signature=signature))
        return tuple(found)

    # -- what somebody can do who has a coordinator's view ---------------------------------------

    def signed(self, manifest: Manifest) -> Manifest:
        """Return a manifest under the coordinator's own, valid signature."""
        return replace(manifest, signature=self.sign(manifest.signed()).hex())

    def strip(
        self,
        uploads: Iterable[NDArray[np.uint8]],
        *,
        add: Iterable[bytes] = (),
        subtract: Iterable[bytes] = (),
    ) -> Vector:
        """Return the sum of uploads after masks of known seeds are added and subtracted."""
        bits = self.agreement.bits
        total = Sum(self.agreement.count + checks(bits), bits)
        for packed in uploads:
            total.add_upload(packed)
        total.unmask(add=list(add), subtract=list(subtract))
        return total.total()[: self.agreement.count]

    def unpair(
        self, number: int, packed: NDArray[np.uint8], pairs: Mapping[int, bytes], *selves: bytes
    ) -> Vector:
        """Return one site's upload without the masks it shares with others, and its own."""
        return self.strip(
            [packed],
            add=[seed for n, seed in pairs.items() if n < number],
            subtract=[*selves, *(seed for n, seed in pairs.items() if n > number)],
        )

    def secret(self, reveals: Iterable[bytes], kind: str, owner: int, threshold: int) -> bytes:
        """Return an owner's self seed or recovery key, from reveals of any holders."""
        shares = {}
        for data in reveals:
            reveal = decode(Reveal, data)
            for share in reveal.self_seeds if kind == "self" else reveal.recovery_keys:
                if share.owner == owner:
                    shares[reveal.member] = bytes.fromhex(share.share)
        return shamir.combine(shares, threshold)

    def pairs(self, attempt: Attempt, shares: bytes, secret: bytes) -> dict[int, bytes]:
        """Return the seeds of a site's masks with its neighbours, by its recovery key."""
        message = decode(Shares, shares)
        key = recovery_key(secret, attempt.digest, message.member)
        context = label("recovery", attempt.digest, message.member)
        seeds = _hazmat.aead_open(key, bytes.fromhex(message.recovery), context)
        neighbours = attempt._graph.neighbours(message.member)
        return {n: seeds[32 * i : 32 * (i + 1)] for i, n in enumerate(neighbours)}

    def recovered(
        self, view: View, attempt: Attempt, reveals: Collection[bytes], gone: Iterable[int]
    ) -> dict[int, dict[int, bytes]]:
        """Return the mask seeds of those whose recovery keys the reveals make."""
        threshold = attempt._graph.threshold
        return {
            n: self.pairs(attempt, view.shares[n], self.secret(reveals, "recovery", n, threshold))
            for n in gone
        }

    def is_plain(self, found: Vector, vector: Vector) -> bool:
        """Return whether an attack has found a vector."""
        return bool((self.centred(found) == self.centred(vector)).all())


@pytest.fixture(scope="session")
def worlds() -> type[World]:
    """Return the class: a test makes as many worlds as it needs."""
    return World


@pytest.fixture
def world() -> World:
    return World()
