"""One site's side of hidden and sealed updates, spoken to through its real Flower app."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from clients.exchange.summed import Summed
from clients.policy import Policy
from fedmodel import wire
from fedmodel._hazmat import x25519_public
from fedmodel.agreement import Facts, complete, complete_model
from fedmodel.data import Rows
from fedmodel.identity import Member, Roster, SigningKey
from fedmodel.identity.seal import Context as Envelope
from fedmodel.identity.seal import open_
from fedmodel.job import (
    Job,
    Proposal,
    ProposedAggregation,
    ProposedModel,
    ProposedPrivacy,
    ProposedSecAgg,
    SecAgg,
    Train,
)
from fedmodel.secagg.aggregator import Aggregator, Attempt
from fedmodel.secagg.agreement import Agreement, Floors
from fedmodel.secagg.participant import Participant
from fedmodel.secagg.sums import PlainSum
from fedmodel.seeds import Entropy, Seed
from fedmodel.training.learner import network
from fedmodel.update import Update
from tests.clients.talk import Speaker, make_site
from tests.jobs import CPU, make_job

COUNT = 4
SESSION = "ab" * 32
TEXTS = [f"note {i} of {'fever' if i % 2 else 'pain'}" for i in range(16)]
ROWS = Rows(TEXTS, ["ab"[i % 2] for i in range(16)])
SIGNER, PRIVATE = SigningKey(b"\1" * 32), b"\5" * 32
OTHERS = {n: SigningKey(bytes([n]) * 32) for n in range(2, COUNT + 1)}


def job_of(mode: Any = "on", privacy: ProposedPrivacy | None = None, **parts: Any) -> Job:
    """Return the job of four sites, completed as a coordinator and the sites would."""
    proposal = Proposal(
        model=ProposedModel(max_length=16),
        train=Train(method="head", rounds=3, steps=1, batch_size=8),
        privacy=privacy or ProposedPrivacy(),
        secagg=ProposedSecAgg(mode=mode, **parts.pop("secagg", {})),
        **parts,
    )
    model = complete_model(proposal, ("a", "b"))
    weights = network(model, proposal.train, Seed(0), CPU).digest
    facts = Facts(
        labels=("a", "b"), weights=weights, units=(16,) * COUNT, rows=63, public_test=True
    )
    return complete(proposal, facts)


RECORD = ProposedPrivacy(mechanism="dpsgd", epsilon=3.0, delta=1e-3, rate=0.5)
POOLED = ProposedPrivacy(mechanism="distributed", epsilon=3.0, delta=1e-3, rate=0.5)
WHOLE = ProposedPrivacy(
    mechanism="site", unit="site", epsilon=3.0, delta=1e-3, rate=1.0, evaluation="suppressed"
)


class Talk(Speaker):
    """Says things to site 1 of four, as a coordinator would; the other three are played here."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        site = make_site(folder, ROWS)
        members = [Member(name="north", key=site.state.key.public.hex())]
        members += [Member(name=f"s{n}", key=k.public.hex()) for n, k in OTHERS.items()]
        self.roster = Roster(
            coordinator=SIGNER.public.hex(),
            seal=x25519_public(PRIVATE).hex(),
            members=tuple(members),
        )
        super().__init__(replace(site, **{"roster": self.roster} | changed), make_job())
        self.others: dict[int, Participant] = {}

    def tell(self, kind: str, data: bytes) -> bytes:
        reply = self.send(kind, wire.add_parcel(wire.encode_reply(), "secagg", data))
        if reply.has_error():
            raise AssertionError(reply.error.reason)
        return wire.parcel(reply.content, "secagg").tobytes()

    def why(self, kind: str, content: RecordDict | bytes) -> str:
        if isinstance(content, bytes):
            content = wire.add_parcel(wire.encode_reply(), "secagg", content)
        reply = self.send(kind, content)
        assert reply.has_error()
        return reply.error.reason or ""

    def offer(self, job: Job, joining: str = SESSION) -> Message:
        return self.join(job, joining=joining)

    @property
    def initial(self) -> Any:
        return self.learner.initial

    @property
    def summed(self) -> Summed:
        """The site's end of the secure sums."""
        exchange = self.run.exchange
        assert isinstance(exchange, Summed)
        return exchange

    def begin(self, job: Job) -> Aggregator:
        """Join, and let all others join too."""
        reply = self.offer(job)
        assert not reply.has_error(), reply.error
        self.agreement = Agreement.of(
            job.secagg.masked,
            session=SESSION,
            job=job.sha256,
            roster=self.roster.sha256,
            rounds=job.train.rounds,
            count=self.summed.participant.agreement.count,
        )
        protocol = Aggregator(agreement=self.agreement, members=self.roster.keys, sign=SIGNER.sign)
        assert protocol.take_advert(wire.parcel(reply.content, "secagg").tobytes()) == 1
        for n, key in OTHERS.items():
            self.others[n] = Participant(
                member=n,
                agreement=self.agreement,
                members=self.roster.keys,
                coordinator=SIGNER.public,
                floors=Floors(),
                sign=key.sign,
                entropy=Entropy(),
            )
            protocol.take_advert(self.others[n].advert())
        return protocol

    def open(self, protocol: Aggregator, round_: int = 1, number: int = 1) -> Attempt:
        model = hashlib.sha256(self.initial.astype("<f4")).hexdigest()
        attempt = protocol.begin(round=round_, attempt=number, model=model, cohort=range(1, 5))
        attempt.take_shares(1, self.tell("query.open", attempt.open_for(1)))
        for n, other in self.others.items():
            attempt.take_shares(n, other.open(attempt.open_for(n)))
        attempt.close_shares()
        return attempt

    def order(self, attempt: Attempt, round_: int = 1, **change: Any) -> RecordDict:
        vector = change.get("vector", self.initial)
        content = wire.encode_order(round_, self.job.sha256, wire.pack(vector))
        return wire.add_parcel(content, "secagg", attempt.deliver_for(1))

    def upload(self, attempt: Attempt, reply: Message, zero: Any) -> None:
        assert not reply.has_error(), reply.error
        packed = wire.parcel(reply.content, "masked")
        attempt.take_upload(1, wire.parcel(reply.content, "secagg").tobytes(), packed)
        for n, other in self.others.items():
            other.deliver(attempt.deliver_for(n))
            attempt.take_upload(n, *other.upload(zero))
        attempt.close_uploads()

    def reveal(self, attempt: Attempt) -> Any:
        told = attempt.survivors_message()
        attempt.take_consent(1, self.tell("query.consent", told))
        for n, other in self.others.items():
            attempt.take_consent(n, other.consent(told))
        attempt.close_consents()
        attempt.take_reveal(1, self.tell("query.reveal", attempt.request_for(1)))
        for n, other in self.others.items():
            attempt.take_reveal(n, other.reveal(attempt.request_for(n)))
        return attempt.total()


def nothing(start: int, stop: int, out: Any) -> None:
    out[:] = 0


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


# -- a whole attempt -----------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["uniform", "examples"])
def test_a_sum_with_others_who_send_zeros_is_the_sites_own_update(talk: Talk, weights: Any) -> None:
    job = job_of(aggregation=ProposedAggregation(weights=weights))
    plain = replace(job, secagg=SecAgg())
    talk.offer(plain, "")
    reply = talk.send("train", wire.encode_order(1, plain.sha256, wire.pack(talk.initial)))
    expected = wire.decode_update(reply.content, talk.initial.size)
    attempt = talk.open(talk.begin(job))
    talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
    total = talk.reveal(attempt)
    sums = PlainSum(job, talk.initial.size)
    total[sums.size] += 3 * (weights == "uniform")  # the others' weights, which they have left out
    if weights == "examples":
        assert total[sums.size] == 16
        total[sums.size] = 16
        mean = sums.decode(total, 1)
    else:
        mean = sums.decode(total, 4)
    factor = 1 if weights == "examples" else 4
    scale = 1 if weights == "uniform" else 1 / 16
    np.testing.assert_allclose(mean.vector * factor, expected.vector * scale, atol=1e-4)
    loss = mean.metrics["train_loss"] * factor
    assert loss == pytest.approx(expected.metrics["train_loss"] * scale, abs=1e-4)


@pytest.mark.parametrize("privacy", [RECORD, POOLED, WHOLE])
def test_a_private_attempt_spends_one_step_and_only_when_it_masks(
    talk: Talk, privacy: ProposedPrivacy
) -> None:
    attempt = talk.open(talk.begin(job_of(privacy=privacy)))
    assert talk.spent() == 0
    talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
    assert talk.spent() == 1
    assert talk.reveal(attempt).any()
    assert talk.spent() == 1


@pytest.mark.parametrize(("privacy", "charges"), [(RECORD, 1), (POOLED, 2), (WHOLE, 2)])
def test_a_second_attempt_repeats_or_draws_anew(
    talk: Talk, privacy: ProposedPrivacy, charges: int
) -> None:
    protocol = talk.begin(job_of(privacy=privacy))
    totals = []
    for number in (1, 2):
        attempt = talk.open(protocol, 1, number)
        talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
        if number == 2:
            totals.append(talk.reveal(attempt))
    assert talk.spent() == charges
    pending = talk.summed._pending
    if privacy is RECORD:
        assert pending is not None
        sums = PlainSum(talk.job, talk.initial.size)
        (total,) = totals
        total[sums.size] = 4
        found = sums.decode(total, 4).vector * 4
        np.testing.assert_allclose(found, pending[1].vector, atol=1e-4)
    else:
        assert pending is None


def test_a_kept_update_is_not_used_for_another_model_of_the_round(talk: Talk) -> None:
    job = job_of(privacy=RECORD)
    attempt = talk.open(talk.begin(job))
    talk.send("train", talk.order(attempt))
    kept = talk.summed._pending
    assert kept is not None
    attempt = talk.open(talk.begin(job))  # a new joining has nothing of it
    assert talk.summed._pending is None
    assert talk.spent() == 1
    talk.summed._pending = ((1, "0" * 64), kept[1])
    assert not talk.send("train", talk.order(attempt)).has_error()
    assert talk.spent() == 2


# -- what a site refuses, and what it costs ------------------------------------------------------


@pytest.mark.parametrize("privacy", [None, RECORD, POOLED, WHOLE])
def test_nothing_is_spent_on_what_the_protocol_refuses(talk: Talk, privacy: Any) -> None:
    protocol = talk.begin(job_of(privacy=privacy))
    order = wire.encode_order(1, talk.job.sha256, wire.pack(talk.initial))
    wire.add_parcel(order, "secagg", b"nothing")
    assert "expected a message" in talk.why("train", order)  # before anything was opened
    attempt = talk.open(protocol)
    assert "expected a message" in talk.why("train", order)
    moved = talk.order(attempt, vector=talk.initial + 1)
    assert "aren't those of the manifest" in talk.why("train", moved)
    # It has taken the shares by then; this attempt is over for it.
    assert "answered once" in talk.why("train", talk.order(attempt))
    attempt = talk.open(protocol, 1, 2)
    assert "aren't those of the manifest" in talk.why("train", talk.order(attempt, round_=2))
    assert talk.spent() == 0
    attempt = talk.open(protocol, 2)
    content = talk.order(attempt, 2)
    assert not talk.send("train", content).has_error()
    assert "answered once" in talk.why("train", content)
    assert talk.spent() == (0 if privacy is None else 1)


def test_a_step_that_is_refused_for_its_budget_masks_nothing(talk: Talk) -> None:
    protocol = talk.begin(job_of(privacy=POOLED))
    for round_ in (1, 2, 3):
        assert not talk.send("train", talk.order(talk.open(protocol, round_), round_)).has_error()
    attempt = talk.open(protocol, 3, 2)
    reply = talk.send("train", talk.order(attempt, 3))
    assert reply.has_error()
    assert wire.decode_error(reply.error).budget
    assert talk.spent() == 3


def test_legs_out_of_order_are_refused(talk: Talk) -> None:
    attempt = talk.open(talk.begin(job_of()))
    reply = talk.send("train", talk.order(attempt))
    talk.upload(attempt, reply, nothing)
    told = attempt.survivors_message()
    for other in talk.others.items():
        attempt.take_consent(other[0], other[1].consent(told))
    attempt.close_consents()
    assert "'uploaded'" in talk.why("query.reveal", attempt.request_for(1))
    talk.tell("query.consent", told)
    talk.tell("query.reveal", attempt.request_for(1))
    assert "answered once" in talk.why("query.reveal", attempt.request_for(1))
    protocol = Aggregator(agreement=talk.agreement, members=talk.roster.keys, sign=SIGNER.sign)
    protocol._adverts = {n: attempt._adverts[n] for n in range(1, 5)}
    again = protocol.begin(round=1, attempt=2, model=attempt.manifest.model, cohort=range(1, 5))
    assert "has revealed shares in round 1" in talk.why("query.open", again.open_for(1))


def test_a_round_that_was_unmasked_is_not_repeated_in_another_session(talk: Talk) -> None:
    """Sums over two sets of sites would show who is in one of them only."""
    job = job_of()
    attempt = talk.open(talk.begin(job))
    talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
    talk.reveal(attempt)
    talk.restart()
    protocol = talk.begin(job)
    again = protocol.begin(round=1, attempt=1, model=attempt.manifest.model, cohort=range(1, 5))
    assert "has revealed shares in round 1" in talk.why("query.open", again.open_for(1))
    talk.open(protocol, 2)


@pytest.mark.parametrize("leg", ["query.open", "query.consent", "query.reveal"])
@pytest.mark.parametrize("mode", ["off", "seal"])
def test_a_job_without_secure_sums_answers_no_leg(talk: Talk, leg: str, mode: str) -> None:
    assert not talk.offer(job_of(mode)).has_error()
    assert "no secure sums" in talk.why(leg, b"x")


@pytest.mark.parametrize("leg", ["query.open", "query.consent", "query.reveal"])
def test_who_has_not_joined_answers_no_leg(talk: Talk, leg: str) -> None:
    assert "hasn't joined" in talk.why(leg, b"x")


@pytest.mark.parametrize("leg", ["query.open", "query.consent", "query.reveal", "train"])
@pytest.mark.parametrize("data", [b"", b"\xff" * 9, b"fedmodel.secagg/1 open\n{}", None])
def test_rubbish_in_a_leg_is_one_clear_refusal(talk: Talk, leg: str, data: Any) -> None:
    talk.open(talk.begin(job_of()))
    content = wire.encode_reply()
    if leg == "train":
        content = wire.encode_order(1, talk.job.sha256, wire.pack(talk.initial))
    if data is not None:
        wire.add_parcel(content, "secagg", data)
    reply = talk.send(leg, content)
    assert reply.has_error()
    assert reply.error.code == 203


# -- joining -------------------------------------------------------------------------------------

MODES = ["on", "seal"]


@pytest.mark.parametrize("mode", MODES)
def test_a_site_without_a_roster_refuses(tmp_path: Path, mode: str) -> None:
    talk = Talk(tmp_path, roster=None)
    reply = talk.offer(job_of(mode))
    assert "has no roster" in (reply.error.reason or "")
    assert not talk.site.ledger_file.exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_roster_that_lacks_the_site_or_has_another_key_is_refused(
    tmp_path: Path, mode: str
) -> None:
    talk = Talk(tmp_path)
    right = talk.roster
    for members, why in [
        (right.members[1:], "has no member 'north'"),
        ((replace(right.members[0], key="12" * 32), *right.members[1:]), "another key under"),
    ]:
        talk.restart(roster=replace(right, members=members))
        assert why in (talk.offer(job_of(mode, RECORD)).error.reason or "")
        assert talk.spent() == 0
        assert not talk.site.ledger_file.exists()


@pytest.mark.parametrize("mode", MODES)
def test_an_offer_without_a_session_is_refused(talk: Talk, mode: str) -> None:
    assert "doesn't name the joining" in (talk.offer(job_of(mode), "").error.reason or "")


def test_the_sites_floors_outrank_the_job_before_anything_is_reserved(tmp_path: Path) -> None:
    for floors in (Floors(survivors=5), Floors(colluders=3), Floors(cohort=9)):
        talk = Talk(tmp_path, policy=Policy(floors=floors))
        reply = talk.offer(job_of(privacy=RECORD))
        assert "this site's floor for" in (reply.error.reason or "")
        assert not talk.site.ledger_file.exists()


def test_each_joining_has_a_key_of_its_own(talk: Talk) -> None:
    keys = {wire.parcel(talk.offer(job_of()).content, "secagg").tobytes() for _ in range(3)}
    assert len(keys) == 3


# -- sealed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("privacy", [None, RECORD])
def test_a_sealed_update_is_for_the_coordinator_and_its_round(talk: Talk, privacy: Any) -> None:
    job = job_of("seal", privacy)
    talk.offer(job)
    reply = talk.send("train", wire.encode_order(2, job.sha256, wire.pack(talk.initial)))
    data = wire.parcel(reply.content, "sealed").tobytes()
    assert set(reply.content) == {"config", "parcels"}
    context = Envelope(
        session=SESSION, job=job.sha256, roster=talk.roster.sha256, member=1, round=2
    )
    sender = talk.site.state.key.public
    opened = open_(data, private=PRIVATE, sender=sender, context=context)
    update = wire.checked_update(*wire.update_from_bytes(opened), talk.initial.size)
    assert isinstance(update, Update)
    assert update.vector.any()
    assert ("train_loss" in update.metrics) == (privacy is None)
    assert talk.spent() == (0 if privacy is None else 1)
