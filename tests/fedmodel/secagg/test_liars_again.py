"""A coordinator that asks again, or mixes up what it passes on: see ``test_liars.py``."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fedmodel import config
from fedmodel.errors import (
    DataError,
    EquivocationError,
    FedmodelError,
    FloorError,
    ProtocolError,
    QuorumError,
    ReplayError,
)
from fedmodel.secagg.closing import ClosedInMemory
from fedmodel.secagg.messages import (
    Consent,
    Deliver,
    Manifest,
    Request,
    Shares,
    Survivors,
    decode,
    encode,
)
from fedmodel.secagg.participant import Participant
from fedmodel.secagg.peers import Peers

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World


class Forgetful(Participant):
    """Doesn't know which attempts it has opened."""

    def _check_new(self, manifest: Manifest) -> None:
        self._closing = ClosedInMemory()


class Obliging(Participant):
    """Answers each stage as often as it is asked."""

    def consent(self, data: bytes) -> bytes:
        assert self._attempt is not None
        self._attempt.stage = "uploaded"
        self._closing = ClosedInMemory()
        return super().consent(data)

    def reveal(self, data: bytes) -> bytes:
        assert self._attempt is not None
        held = dict(self._attempt.held)
        answer = super().reveal(data)
        self._attempt.held = held
        return answer


# -- again -----------------------------------------------------------------------------------------


def test_a_replayed_attempt(worlds: "type[World]") -> None:
    world = worlds(5)
    first, x = world.begin(), world.vectors(1)
    opened = {n: first.open_for(n) for n in world.numbers}
    world.share(first)
    for n, site in world.sites.items():
        with pytest.raises(ReplayError, match="round 1, attempt 1 isn't after round 1, attempt 1"):
            site.open(opened[n])
    world.upload(first, x)
    world.consent(first)
    world.reveal(first)
    assert world.is_plain(first.total(), sum(x.values(), np.zeros(40, np.int64)))
    world.play(x, round=3)
    for round_, attempt in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1)):
        again = world.begin(round=round_, attempt=attempt)
        with pytest.raises(ReplayError, match="isn't after round 3, attempt 1"):
            world.sites[1].open(again.open_for(1))

    # Without the check two vectors are masked alike, but for self seeds that are revealed.
    world = worlds(5, site_class=Forgetful)
    vectors = (world.vectors(1), world.vectors(2))
    views, selves = (world.view(), world.view()), []
    for x, view in zip(vectors, views, strict=True):
        made, _ = world.play(x, view=view)
        threshold = made._graph.threshold
        selves.append(world.secret(view.reveals.values(), "self", 1, threshold))
    stripped = [
        world.strip([view.uploads[1][1]], subtract=[seed])
        for view, seed in zip(views, selves, strict=True)
    ]
    assert world.is_plain(stripped[0] - stripped[1], vectors[0][1] - vectors[1][1])


def test_an_attempt_after_a_reveal(worlds: "type[World]") -> None:
    # The same vectors summed over all, and over all but site 5.
    world = worlds(5)
    x = world.vectors()
    world.play(x)
    again = world.begin(attempt=2, cohort=(1, 2, 3, 4))
    for n in again.manifest.cohort:
        with pytest.raises(ReplayError, match="agreed to a sum in round 1, and takes part"):
            world.sites[n].open(again.open_for(n))
    world.play(x, round=2)

    world = worlds(5, site_class=Forgetful)
    (_, whole), (_, part) = world.play(x), world.play(x, attempt=2, cohort=(1, 2, 3, 4))
    assert world.is_plain(whole - part, x[5])


def test_who_has_agreed_is_in_no_later_attempt(worlds: "type[World]") -> None:
    # A bare majority makes the sum; the others are too few for a second one.
    world = worlds(6, survivors=4, threshold=4)
    x, attempt = world.vectors(), world.at("consent")
    world.consent(attempt, but=(5, 6))
    world.reveal(attempt, but=(5, 6))
    assert world.is_plain(attempt.total(), sum(x.values(), np.zeros(40, np.int64)))
    again = world.begin(attempt=2, cohort=(3, 4, 5, 6))
    for n in (3, 4):
        with pytest.raises(ReplayError, match="has agreed to a sum in round 1"):
            world.sites[n].open(again.open_for(n))
    for n in (5, 6):
        again.take_shares(n, world.sites[n].open(again.open_for(n)))
    with pytest.raises(QuorumError, match="2 of 4 sites shared"):
        again.close_shares()


def test_each_stage_is_answered_once(world: "World") -> None:
    attempt, x, site = world.begin(), world.vectors(), world.sites[1]
    for act in (lambda: site.upload(world.writer(x[1])), lambda: site.manifest):
        with pytest.raises(ReplayError, match="no attempt is open"):
            act()
    world.share(attempt)
    deliver = attempt.deliver_for(1)
    with pytest.raises(ReplayError, match="is 'shared', the message is for one that is 'deliv"):
        site.upload(world.writer(x[1]))
    world.upload(attempt, x)
    told = attempt.survivors_message()
    with pytest.raises(ReplayError, match="is 'uploaded', the message is for one that is 'shared'"):
        site.deliver(deliver)
    with pytest.raises(ReplayError, match="is 'uploaded'"):
        site.upload(world.writer(x[1]))
    with pytest.raises(ReplayError, match="'uploaded', the message is for one that is 'consented'"):
        site.reveal(world.request(attempt, ()))  # before it was told of survivors
    world.consent(attempt)
    for again in (told, world.told(attempt, world.numbers, (1, 2, 3, 4))):
        with pytest.raises(ReplayError, match="is 'consented'"):
            site.consent(again)
    world.reveal(attempt)
    with pytest.raises(ReplayError, match="is 'revealed', the message is for one that is 'consent"):
        site.reveal(attempt.request_for(site.member))
    with pytest.raises(ReplayError, match="is 'revealed'"):
        site.consent(told)


def test_asked_for_both_kinds(worlds: "type[World]") -> None:
    # Sites that answer twice give the shares of site 1's self seed, then of its recovery key.
    world = worlds(5, site_class=Obliging)
    view, x, attempt = world.view(), world.vectors(), world.begin()
    world.share(attempt, view=view)
    world.upload(attempt, x, view=view)
    answers = []
    for survivors in ((1, 2, 3, 4, 5), (2, 3, 4, 5)):
        told = world.told(attempt, world.numbers, survivors)
        request = world.request(attempt, [world.sites[n].consent(told) for n in survivors])
        answers.append([world.sites[n].reveal(request) for n in survivors])
    self_seed = world.secret(answers[0], "self", 1, attempt._graph.threshold)
    pairs = world.recovered(view, attempt, answers[1], (1,))[1]
    assert world.is_plain(world.unpair(1, view.uploads[1][1], pairs, self_seed), x[1])


def test_a_site_whose_vector_cannot_be_written_masks_nothing_else(world: "World") -> None:
    attempt = world.begin()
    world.share(attempt)
    site = world.sites[1]
    site.deliver(attempt.deliver_for(1))

    def fail(start: int, stop: int, out: object) -> None:
        raise DataError("a coordinate is beyond the range")

    with pytest.raises(DataError):
        site.upload(fail)
    with pytest.raises(ReplayError, match="is 'uploaded'"):
        site.upload(world.writer(world.vectors()[1]))


# -- consents and deliveries -----------------------------------------------------------------------


@pytest.mark.parametrize("case", ["forged", "another's", "no survivor", "unknown", "other attempt"])
def test_wrong_consents(worlds: "type[World]", case: str) -> None:
    world = worlds(6, survivors=4, extra=1)
    early = world.at("consent")
    old = world.sites[3].consent(world.told(early, world.numbers, (1, 2, 3, 4, 5)))
    attempt = world.begin(round=2)
    world.share(attempt)
    world.upload(attempt, world.vectors(), but=(6,))
    world.consent(attempt)
    request = decode(Request, attempt.request_for(1))
    told = world.told(attempt, attempt.takers, attempt.survivors)
    signed = decode(Survivors, told).signed()

    def by(member: int, signer: int) -> Consent:
        return Consent(member=member, signature=world.signers[signer](signed).hex())

    wrong, error, said = {
        "forged": (
            replace(request.consents[2], signature="0" * 128),
            EquivocationError,
            "site 3 h",
        ),
        "another's": (by(3, 2), EquivocationError, "site 3 hasn't signed the survivors"),
        "no survivor": (by(6, 6), ProtocolError, "site 6 consents, but is no survivor"),
        "unknown": (by(7, 7), ProtocolError, "site 7 consents, but is no survivor"),
        "other attempt": (decode(Consent, old), EquivocationError, "site 3 hasn't signed"),
    }[case]
    others = [c for c in request.consents if c.member != 3]
    consents = tuple(sorted((*others, wrong), key=lambda c: c.member))
    with pytest.raises(error, match=said):
        world.sites[1].reveal(encode(replace(request, consents=consents)))
    twice = replace(request, consents=request.consents[:1])
    again = b"}," + config.canonical(request.consents[0]) + b"]"
    text = encode(twice).replace(b"}]", again, 1)
    with pytest.raises(ProtocolError, match="in rising order, each once"):
        world.sites[1].reveal(text)
    world.reveal(attempt)
    attempt.total()


def test_wrong_deliveries(worlds: "type[World]") -> None:
    world = worlds(5)
    old = world.begin()
    world.share(old)
    stale = decode(Deliver, old.deliver_for(1))
    attempt = world.begin(attempt=2)
    world.share(attempt)
    good = decode(Deliver, attempt.deliver_for(1))
    b2, b3, *rest = good.boxes
    swapped = (replace(b2, box=b3.box), replace(b3, box=b2.box), *rest)
    mine = decode(Deliver, attempt.deliver_for(2)).boxes[-1]
    cases: list[tuple[Deliver, type[FedmodelError], str]] = [
        (stale, ReplayError, "of another attempt than the open one"),
        (replace(good, boxes=stale.boxes), ProtocolError, "the shares from site 2: .*doesn't open"),
        (replace(good, boxes=swapped), ProtocolError, "the shares from site 2: .*doesn't open"),
        (replace(good, boxes=good.boxes[1:]), ProtocolError, r"from: sites \[2\] are missing"),
        (
            replace(good, takers=(1, 2, 3, 4)),
            ProtocolError,
            r"from: sites \[5\] are missing or too",
        ),
        (replace(good, takers=(2, 3, 4, 5)), ProtocolError, "isn't among the takers"),
        (replace(good, takers=(1, 2)), FloorError, "2 takers are left, 3 are needed"),
        (replace(good, takers=(1, 2, 3, 9)), ProtocolError, r"takers \[9\] weren't among those"),
        (replace(good, boxes=(*good.boxes[:3], mine)), ProtocolError, "from site 5.*doesn't open"),
        (replace(good, boxes=(*good.boxes[:3], replace(mine, box=""))), ProtocolError, "site 5"),
    ]
    for message, error, said in cases:
        with pytest.raises(error, match=said):
            world.sites[1].deliver(encode(message))
    world.upload(attempt, world.vectors())  # nothing of this has changed anything


def test_envelopes_of_an_earlier_attempt(
    worlds: "type[World]", monkeypatch: pytest.MonkeyPatch
) -> None:
    # Were they not bound to their attempt: shares of an upload that was never summed are
    # delivered again twice, in rounds in which their owner survives, and drops out.
    seal, unseal = Peers.seal, Peers.open
    monkeypatch.setattr(Peers, "seal", lambda self, _, *rest: seal(self, b"", *rest))
    monkeypatch.setattr(Peers, "open", lambda self, _, *rest: unseal(self, b"", *rest))
    world = worlds(5)
    first, x, before = world.begin(), world.vectors(), world.view()
    world.share(first, view=before)
    world.upload(first, x, view=before)  # and no more of this attempt
    answers = []
    for round_, survivors in ((2, (1, 2, 3, 4, 5)), (3, (2, 3, 4, 5))):
        view, attempt = world.view(), world.begin(round=round_)
        world.share(attempt, view=view)
        now = decode(Shares, view.shares[1])
        old = replace(now, boxes=decode(Shares, before.shares[1]).boxes)
        view.shares[1] = encode(old)
        for n, site in world.sites.items():
            site.deliver(world.deliver_message(attempt, view, n, world.numbers))
            site.upload(world.writer(x[n]))
        told = world.told(attempt, world.numbers, survivors)
        request = world.request(attempt, [world.sites[n].consent(told) for n in survivors])
        answers.append([world.sites[n].reveal(request) for n in survivors if n != 1])
    self_seed = world.secret(answers[0], "self", 1, first._graph.threshold)
    pairs = world.recovered(before, first, answers[1], (1,))[1]
    assert world.is_plain(world.unpair(1, before.uploads[1][1], pairs, self_seed), x[1])
