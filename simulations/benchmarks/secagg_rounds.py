"""Whole rounds of secure aggregation in one process, and the seconds of every party's part.

All sites are real. A site's part has these legs,
between which it waits for the others:

- ``open``: checks the manifest, shares this attempt's secrets among the others;
- ``order``: reads the parameters and compares their hash with the manifest's;
- ``deliver``: opens the shares that it is to hold;
- ``noise``: where sites share the noise of a private sum, its share;
- ``mask``: fixed point, all masks, packing;
- ``consent`` and ``reveal``;
- ``records``: protocol bytes into Flower's records and out of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from fedmodel import _hazmat, wire
from fedmodel.identity import SigningKey
from fedmodel.job import ProposedSecAgg, masked_sums
from fedmodel.secagg.aggregator import Aggregator, Attempt
from fedmodel.secagg.agreement import Agreement, Floors
from fedmodel.secagg.checks import upload_size
from fedmodel.secagg.fields import verify
from fedmodel.secagg.masking import Encode
from fedmodel.secagg.messages import Advert, decode
from fedmodel.secagg.participant import Participant
from fedmodel.seeds import Entropy
from fedmodel.update import Vector, vector_sha256
from simulations.benchmarks.secagg_turns import Seconds, Watch, timed

__all__ = ["Federation", "Played"]

_JOB, _ROSTER = "0" * 64, "1" * 64


@dataclass(frozen=True, slots=True)
class Played:
    """One round.

    Args:
        sites: number → legs, of those that stayed to the end.
        coordinator: its legs; ``upload`` is all of them.
        uploads: seconds of each upload alone, out of the record and into the sum.
        total: the unmasked sum.
        sent: bytes of protocol messages that a site sent beside its vector: the most.
    """

    sites: dict[int, Watch]
    coordinator: Watch
    uploads: list[Seconds]
    total: NDArray[np.int32]
    sent: int


@dataclass
class _Post:
    """Carries protocol bytes between the coordinator and a site, as Flower's records."""

    coordinator: Watch
    sites: dict[int, Watch]
    sent: dict[int, int] = field(default_factory=dict)

    def down(self, member: int, data: bytes) -> bytes:
        content = self.coordinator("records", _content, data)
        return self.sites[member]("records", _protocol, content)

    def up(self, member: int, data: bytes) -> bytes:
        self.sent[member] = self.sent.get(member, 0) + len(data)
        content = self.sites[member]("records", _content, data)
        return self.coordinator("records", _protocol, content)


class Federation:
    """Sites and a coordinator in one session, who know one another's keys.

    Args:
        sites: how many.
        vector: the parameters that every round starts from, float32.
        bits: of a ring element.
        rounds: at most; a first one is used up for the keys.
    """

    def __init__(self, sites: int, vector: Vector, *, bits: int = 24, rounds: int = 1000) -> None:
        entropy = Entropy()
        keys = {n: SigningKey(entropy.bytes(32)) for n in range(1, sites + 1)}
        own = SigningKey(entropy.bytes(32))
        agreement = Agreement.of(
            masked_sums(ProposedSecAgg(mode="on", bits=bits), sites=sites),
            session=entropy.bytes(32).hex(),
            job=_JOB,
            roster=_ROSTER,
            rounds=rounds,
            count=vector.size,
        )
        self.bits = bits
        self.size = upload_size(vector.size, bits)
        self._members = {n: key.public for n, key in keys.items()}
        self._coordinator = Aggregator(agreement=agreement, members=self._members, sign=own.sign)
        self._sites = {
            n: Participant(
                member=n,
                agreement=agreement,
                members=self._members,
                coordinator=own.public,
                floors=Floors(),
                sign=key.sign,
                entropy=entropy,
            )
            for n, key in keys.items()
        }
        adverts = [site.advert() for site in self._sites.values()]
        for advert in adverts:
            self._coordinator.take_advert(advert)
        self._adverts = [decode(Advert, data) for data in adverts]
        self._model = vector_sha256(vector)
        self._order = wire.encode_order("benchmark", 1, _JOB, wire.pack(vector))
        self.first = self._agree()

    def _agree(self) -> list[Seconds]:
        """Let all sites open an attempt that ends there; return the seconds of each."""
        attempt = self._begin(1)
        found = []
        for member, site in self._sites.items():
            _hazmat.verified.clear()
            found.append(timed(site.open, attempt.open_for(member))[1])
        return found

    def _begin(self, round_: int) -> Attempt:
        return self._coordinator.begin(
            round=round_, attempt=1, model=self._model, cohort=self._sites
        )

    def _forget(self) -> None:
        """Leave only what a process of its own would remember of verified signatures."""
        _hazmat.verified.clear()
        for advert in self._adverts:
            verify(self._members[advert.member], advert.signed(), advert.signature)

    def play(
        self,
        round_: int,
        contribution: Callable[[Watch], Encode],
        dropped: Iterable[int] = (),
    ) -> Played:
        """Play a round; check nothing of its sum.

        Args:
            round_: from 2 on, each once.
            contribution: returns what a site encodes; the watch is the site's.
            dropped: who sends no vector.
        """
        post = _Post(Watch(), {n: Watch() for n in self._sites})
        main = post.coordinator
        attempt = main("begin", self._begin, round_)
        for member, site in self._sites.items():
            told = post.down(member, main("open", attempt.open_for, member))
            self._forget()
            answer = post.up(member, post.sites[member]("open", site.open, told))
            main("open", attempt.take_shares, member, answer)
        main("deliver", attempt.close_shares)
        uploads = [
            self._upload(member, attempt, post, contribution)
            for member in attempt.takers
            if member not in set(dropped)
        ]
        attempt.close_uploads()
        self._agree_on_survivors(attempt, post)
        self._reveal(attempt, post)
        total = main("unmask", attempt.total)
        kept = {n: post.sites[n] for n in attempt.survivors}
        return Played(kept, main, uploads, total, max(post.sent.values()))

    def _upload(
        self,
        member: int,
        attempt: Attempt,
        post: _Post,
        contribution: Callable[[Watch], Encode],
    ) -> Seconds:
        site, watch = self._sites[member], post.sites[member]
        told = post.down(member, post.coordinator("deliver", attempt.deliver_for, member))
        watch("order", self._read_order)
        watch("deliver", site.deliver, told)
        header, packed = watch("mask", site.upload, contribution(watch))
        content = watch("records", _answer, header, packed)
        post.sent[member] += len(header)
        alone = Watch()
        alone("upload", self._take_upload, attempt, member, content)
        post.coordinator.legs["upload"] = post.coordinator.total("upload") + alone.total()
        return alone.total()

    def _take_upload(self, attempt: Attempt, member: int, content: RecordDict) -> None:
        vector = wire.parcel(content, "masked", self.size)
        attempt.take_upload(member, _protocol(content), vector)

    def _read_order(self) -> None:
        order = wire.decode_order(self._order)
        if vector_sha256(order.vector) != self._model:
            raise RuntimeError("the order has other parameters than the manifest names")

    def _agree_on_survivors(self, attempt: Attempt, post: _Post) -> None:
        message = post.coordinator("consent", attempt.survivors_message)
        for member in attempt.survivors:
            told = post.down(member, message)
            signed = post.sites[member]("consent", self._sites[member].consent, told)
            post.coordinator("consent", attempt.take_consent, member, post.up(member, signed))
        post.coordinator("consent", attempt.close_consents)

    def _reveal(self, attempt: Attempt, post: _Post) -> None:
        for member in attempt.survivors:
            told = post.down(member, post.coordinator("reveal", attempt.request_for, member))
            _hazmat.verified.clear()
            revealed = post.sites[member]("reveal", self._sites[member].reveal, told)
            post.coordinator("reveal", attempt.take_reveal, member, post.up(member, revealed))


def _content(data: bytes) -> RecordDict:
    return wire.add_parcel(wire.encode_reply(), "secagg", data)


def _protocol(content: RecordDict) -> bytes:
    return wire.parcel(content, "secagg").tobytes()


def _answer(header: bytes, packed: NDArray[np.uint8]) -> RecordDict:
    return wire.add_parcel(_content(header), "masked", packed)
