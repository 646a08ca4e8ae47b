"""One site's side of secure sums: whole attempts, and what it refuses at which cost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.account import Account
from clients.policy import Policy
from fedmodel import wire
from fedmodel.accounting.guard import StepGuard
from fedmodel.errors import BudgetError, ProtocolError
from fedmodel.job import (
    ProposedAggregation,
    ProposedPrivacy,
    SecAgg,
)
from fedmodel.ledger import Ledger
from fedmodel.ledger.site_line import NOWHERE
from fedmodel.secagg.aggregator import Aggregator
from fedmodel.secagg.agreement import Floors
from fedmodel.secagg.messages import Request, decode, encode
from fedmodel.secagg.sums import PlainSum
from tests.clients.four_sites import (
    POOLED,
    RECORD,
    SIGNER,
    WHOLE,
    Talk,
    job_of,
    nothing,
)

# A threshold of 3: of five sites with a colluder two sets can have that one alone in common.
LOW = Floors(cohort=4, survivors=4, threshold=3, colluders=1)


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


# -- a whole attempt -----------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("weights", ["uniform", "examples"])
def test_a_sum_with_others_who_send_zeros_is_the_sites_own_update(talk: Talk, weights: Any) -> None:
    job = job_of(aggregation=ProposedAggregation(weights=weights))
    plain = replace(job, secagg=SecAgg())
    talk.offer(plain)
    reply = talk.send("train", wire.encode_order("test", 1, plain.sha256, wire.pack(talk.initial)))
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


@pytest.mark.long
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


@pytest.mark.sample(2)
@pytest.mark.parametrize(("privacy", "repeats"), [(RECORD, 0), (POOLED, 1), (WHOLE, 1)])
def test_a_second_attempt_repeats_or_draws_anew_and_is_paid_once(
    talk: Talk, privacy: ProposedPrivacy, repeats: int
) -> None:
    protocol = talk.begin(job_of(privacy=privacy))
    totals = []
    for number in (1, 2):
        attempt = talk.open(protocol, 1, number)
        talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
        if number == 2:
            totals.append(talk.reveal(attempt))
    assert (talk.spent(), talk.repeated()) == (1, repeats)
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


@pytest.mark.parametrize(("bystanders", "charges"), [(0, 1), (1, 2), (4, 2)])
def test_where_two_sets_of_sites_could_consent_each_attempt_is_paid(
    tmp_path: Path, bystanders: int, charges: int
) -> None:
    talk = Talk(tmp_path, bystanders, policy=Policy(approval="auto", floors=LOW))
    protocol = talk.begin(job_of(privacy=POOLED))
    for number in (1, 2):
        attempt = talk.open(protocol, 1, number)
        talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
    assert (talk.spent(), talk.repeated()) == (charges, 2 - charges)


@pytest.mark.parametrize("change", ["joining", "process", "file", "roster"])
def test_a_round_is_paid_once_over_joinings_and_processes_but_not_over_rosters(
    talk: Talk, change: str
) -> None:
    """One set of survivors can be agreed on of the sites of a roster, whatever the joining."""
    job = job_of(privacy=POOLED)
    attempt = talk.open(talk.begin(job))
    assert not talk.send("train", talk.order(attempt)).has_error()
    assert talk.spent() == 1
    (path,) = talk.kept.glob("paid-*.json")
    if change != "joining":
        talk.restart()
    if change == "file":  # what can't be read covers nothing
        path.write_bytes(path.read_bytes()[:-9])
    if change == "roster":
        path.write_text(path.read_text().replace(talk.roster.sha256, "f" * 64))
    again = 1 if change in ("joining", "process") else 2
    protocol = talk.begin(job)
    for round_, charges in ((1, again), (2, again + 1)):
        for number in (1, 2):
            attempt = talk.open(protocol, round_, number)
            assert not talk.send("train", talk.order(attempt, round_)).has_error()
            assert talk.spent() == charges
    entries = Ledger(talk.site.ledger_file).entries()
    drawn = [e for e in entries if e.type in ("spend", "repeat")]
    assert len(drawn) == 5  # each attempt is in the ledger, paid or not


def test_a_repeats_step_is_guarded_and_none_is_taken_after_the_evaluation(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk.begin(job_of(privacy=POOLED))
    account, plan = talk.run.account, talk.run.plan
    assert account is not None
    assert plan is not None
    for round_ in (1, 2, 3):
        account.spend_round(round_, 1, plan.clip, NOWHERE)
    guard = account.repeat_round(3, NOWHERE)
    guard.before_step(plan.spend(3, 1))
    with pytest.raises(BudgetError, match="isn't covered by the plan"):
        guard.before_step(plan.spend(3, 1))
    monkeypatch.setattr(Account, "_evaluated", lambda self: True)
    with pytest.raises(BudgetError, match="has evaluated the job's last model"):
        account.repeat_round(3, NOWHERE)
    assert (talk.spent(), talk.repeated()) == (3, 1)


def test_a_pending_update_is_not_used_for_another_model_of_the_round(talk: Talk) -> None:
    job = job_of(privacy=RECORD)
    attempt = talk.open(talk.begin(job))
    talk.send("train", talk.order(attempt))
    kept = talk.summed._pending
    assert kept is not None
    attempt = talk.open(talk.begin(job))  # a new joining has nothing of it in memory
    assert talk.summed._pending is None
    assert talk.spent() == 1
    (path,) = talk.kept.glob("update-*.bin")
    path.unlink()
    talk.summed._pending = ((1, "0" * 64), kept[1])
    assert not talk.send("train", talk.order(attempt)).has_error()
    assert talk.spent() == 2


def test_a_site_tells_its_operator_that_its_update_rounds_to_nothing(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """In its own log, once, and nobody else: how much of an update is small is the site's own."""
    protocol = talk.begin(job_of(secagg={"bits": 16, "range": 2.0**10}))
    replies = []
    for number in (1, 2):
        attempt = talk.open(protocol, 1, number)
        replies.append(talk.send("train", talk.order(attempt)))
    said = [r.getMessage() for r in caplog.records if "little effect on the model" in r.message]
    assert len(said) == 1
    assert said[0].startswith("site north: of ")
    assert "0 are left after rounding to secagg.bits=16" in said[0]
    assert all(set(reply.content) == {"config", "parcels"} for reply in replies)
    caplog.clear()
    attempt = talk.open(talk.begin(job_of()))
    talk.send("train", talk.order(attempt))
    assert not caplog.records


@pytest.mark.parametrize("privacy", [None, RECORD, POOLED, WHOLE])
def test_a_wrong_mask_is_noticed_in_every_kind_of_sum(talk: Talk, privacy: Any) -> None:
    attempt = talk.open(talk.begin(job_of(privacy=privacy)))
    opened = talk.summed.participant._attempt
    assert opened is not None
    opened.seeds[3] = bytes(32)
    talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
    with pytest.raises(ProtocolError, match="isn't that of the 4 survivors' vectors"):
        talk.reveal(attempt)


# -- what a site refuses, and what it costs ------------------------------------------------------


@pytest.mark.parametrize("privacy", [None, RECORD, POOLED, WHOLE])
def test_nothing_is_spent_on_what_the_protocol_refuses(talk: Talk, privacy: Any) -> None:
    protocol = talk.begin(job_of(privacy=privacy))
    order = wire.encode_order("test", 1, talk.job.sha256, wire.pack(talk.initial))
    wire.add_parcel(order, "secagg", b"nothing")
    assert "expected a message" in talk.why("train", order)  # before anything was opened
    attempt = talk.open(protocol)
    assert "expected a message" in talk.why("train", order)
    moved = talk.order(attempt, vector=talk.initial + 1)
    assert "aren't those of the manifest" in talk.why("train", moved)
    # It has taken the shares by then; this attempt is over for it.
    assert "answered once" in talk.why("train", talk.order(attempt))
    attempt = talk.open(protocol, 1, 2)
    assert "are of different rounds" in talk.why("train", talk.order(attempt, round_=2))
    assert talk.spent() == 0
    attempt = talk.open(protocol, 2)
    content = talk.order(attempt, 2)
    first, again = (talk.send("train", content).content for _ in range(2))
    for part in ("masked", "secagg"):
        assert wire.parcel(first, part).tobytes() == wire.parcel(again, part).tobytes()
    assert talk.spent() == (0 if privacy is None else 1)


def test_a_step_that_is_refused_for_its_budget_masks_nothing(tmp_path: Path) -> None:
    talk = Talk(tmp_path, bystanders=4, policy=Policy(approval="auto", floors=LOW))
    protocol = talk.begin(job_of(privacy=POOLED))
    for round_ in (1, 2, 3):
        assert not talk.send("train", talk.order(talk.open(protocol, round_), round_)).has_error()
    attempt = talk.open(protocol, 3, 2)
    reply = talk.send("train", talk.order(attempt, 3))
    assert reply.has_error()
    assert wire.decode_error(reply.error).budget
    assert talk.spent() == 3


@pytest.mark.parametrize("mode", ["off", "seal", "on"])
def test_an_update_proves_that_the_ledger_has_grown_from_where_the_order_knows_it(
    talk: Talk, mode: str
) -> None:
    job = job_of(mode, RECORD)
    if mode == "on":
        attempt = talk.open(talk.begin(job))
    else:
        assert not talk.offer(job).has_error()
    joined = talk.run.standing()
    assert joined is not None
    size = joined.head.size
    order = wire.encode_order("test", 1, job.sha256, wire.pack(talk.initial), size)
    reply = talk.send("train", talk.order(attempt, entries=size) if mode == "on" else order)
    after = wire.decode_standing(reply.content)
    assert after is not None
    assert after.head.size > size
    after.head.check_follows(joined.head, after.proof)


@pytest.mark.parametrize("privacy", [RECORD, POOLED, WHOLE])
def test_no_way_of_summing_goes_past_the_guard_in_the_loop(
    talk: Talk, privacy: ProposedPrivacy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: StepGuard, spend: Any) -> None:
        raise BudgetError("the guard says no")

    monkeypatch.setattr(StepGuard, "before_step", refuse)
    attempt = talk.open(talk.begin(job_of(privacy=privacy)))
    assert "the guard says no" in talk.why("train", talk.order(attempt))


@pytest.mark.parametrize("leg", ["query.open", "query.consent", "query.reveal", "train"])
def test_a_message_without_end_is_refused_before_it_is_copied(talk: Talk, leg: str) -> None:
    attempt = talk.open(talk.begin(job_of()))
    content = talk.order(attempt) if leg == "train" else wire.encode_reply()
    wire.add_parcel(content, "secagg", bytes(wire.LONGEST + 1))
    assert f"has {wire.LONGEST + 1} bytes, at most {wire.LONGEST} may come" in talk.why(
        leg, content
    )


def test_legs_out_of_order_are_refused(talk: Talk) -> None:
    attempt = talk.open(talk.begin(job_of()))
    reply = talk.send("train", talk.order(attempt))
    talk.upload(attempt, reply, nothing)
    told = attempt.survivors_message()
    for other in talk.others.items():
        attempt.take_consent(other[0], other[1].consent(told))
    attempt.close_consents()
    assert "'uploaded'" in talk.why("query.reveal", attempt.request_for(1))
    for leg, data in (("query.consent", told), ("query.reveal", attempt.request_for(1))):
        assert talk.tell(leg, data) == talk.tell(leg, data)
    more = decode(Request, attempt.request_for(1))
    fewer = encode(replace(more, consents=more.consents[:-1]))
    assert "answered once" in talk.why("query.reveal", fewer)
    protocol = Aggregator(agreement=talk.agreement, members=talk.roster.keys, sign=SIGNER.sign)
    protocol._adverts = {n: attempt._adverts[n] for n in range(1, 5)}
    again = protocol.begin(round=1, attempt=2, model=attempt.manifest.model, cohort=range(1, 5))
    assert "has agreed to a sum in round 1" in talk.why("query.open", again.open_for(1))


def test_a_round_that_was_unmasked_is_not_repeated_in_another_session(talk: Talk) -> None:
    """Sums over two sets of sites would show who is in one of them only."""
    job = job_of()
    attempt = talk.open(talk.begin(job))
    talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
    talk.reveal(attempt)
    talk.restart()
    protocol = talk.begin(job)
    again = protocol.begin(round=1, attempt=1, model=attempt.manifest.model, cohort=range(1, 5))
    assert "has agreed to a sum in round 1" in talk.why("query.open", again.open_for(1))
    talk.open(protocol, 2)


def test_two_sessions_of_a_job_at_once_do_not_isolate_a_site(tmp_path: Path) -> None:
    """Each process joins while no round is closed; the second is to sum over one site less."""
    job, sessions = job_of(), (Talk(tmp_path), Talk(tmp_path))
    attempts = [session.open(session.begin(job)) for session in sessions]
    for session, attempt in zip(sessions, attempts, strict=True):
        session.upload(attempt, session.send("train", session.order(attempt)), nothing)
    one, other = sessions
    one.reveal(attempts[0])
    assert "has agreed to a sum in round 1" in other.why(
        "query.consent", attempts[1].survivors_message()
    )
    again = other.begin(job)
    model = attempts[0].manifest.model
    late = again.begin(round=1, attempt=1, model=model, cohort=range(1, 5))
    assert "has agreed to a sum in round 1" in other.why("query.open", late.open_for(1))
    assert one.summed.participant.closed == other.summed.participant.closed == 1


@pytest.mark.parametrize("leg", ["query.open", "query.consent", "query.reveal"])
@pytest.mark.parametrize("mode", ["off", "seal"])
def test_a_job_without_secure_sums_answers_no_leg(talk: Talk, leg: str, mode: str) -> None:
    assert not talk.offer(job_of(mode)).has_error()
    assert "no secure sums" in talk.why(leg, b"x")


@pytest.mark.parametrize("leg", ["query.open", "query.consent", "query.reveal"])
def test_who_has_not_joined_answers_no_leg(talk: Talk, leg: str) -> None:
    assert "hasn't joined" in talk.why(leg, b"x")


@pytest.mark.sample(5)
@pytest.mark.parametrize("leg", ["query.open", "query.consent", "query.reveal", "train"])
@pytest.mark.parametrize("data", [b"", b"\xff" * 9, b"fedmodel.secagg/2 open\n{}", None])
def test_rubbish_in_a_leg_is_one_clear_refusal(talk: Talk, leg: str, data: Any) -> None:
    talk.open(talk.begin(job_of()))
    content = wire.encode_reply()
    if leg == "train":
        content = wire.encode_order("test", 1, talk.job.sha256, wire.pack(talk.initial))
    if data is not None:
        wire.add_parcel(content, "secagg", data)
    reply = talk.send(leg, content)
    assert reply.has_error()
    assert reply.error.code == 203
