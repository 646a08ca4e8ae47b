"""What a site with a roster takes from whom: signed by its coordinator, for it, and for now."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from fedmodel import wire
from fedmodel.identity import SigningKey
from fedmodel.job import Privacy, SecAgg
from fedmodel.wire import Offer
from tests.clients import four_sites
from tests.clients.four_sites import POOLED, RECORD, Talk, job_of, nothing
from tests.clients.talk import Speaker
from tests.jobs import CPU

STRANGER = SigningKey(b"\x77" * 32)


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


def order_of(talk: Talk, round_: int = 1, **change: Any) -> RecordDict:
    vector = wire.pack(change.get("vector", talk.initial))
    run = change.get("run", talk.run_name)
    return wire.encode_order(run, round_, talk.job.sha256, vector)


def unsigned(talk: Talk, kind: str, content: RecordDict) -> str:
    """Say something that nobody has signed; return why it is refused."""
    content.pop("signed", None)
    return why(Speaker.send(talk, kind, content))


def why(reply: Message, code: int = 203) -> str:
    assert reply.has_error()
    assert reply.error.code == code  # 203: a ProtocolError, 209: an UnjoinedError
    return str(reply.error.reason)


def untouched(talk: Talk) -> bool:
    """Whether nothing was reserved or spent, and no run joined."""
    return not talk.site.ledger_file.exists() and talk.app._nodes[77, 5].run is None


# -- offers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weaker", ["secagg=off", "privacy=none"])
def test_an_offer_that_nobody_signed_is_refused_and_costs_nothing(talk: Talk, weaker: str) -> None:
    job = talk.job = job_of("on", RECORD)
    offered = (
        replace(job, secagg=SecAgg()) if weaker == "secagg=off" else replace(job, privacy=Privacy())
    )
    for joining in ("", "ab" * 32):
        offer = Offer(run="test", job=offered, performance=CPU, joining=joining)
        said = unsigned(talk, "query.join", wire.encode_offer(offer))
        assert "expected 'query.join' with the signature of the key" in said
        assert "takes no offer or order that its coordinator hasn't signed" in said
        assert "get the roster of this coordinator from the consortium" in said
    assert untouched(talk)
    assert "signature" in unsigned(talk, "train", order_of(talk))


def test_a_stranger_who_signs_is_refused(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(four_sites, "SIGNER", STRANGER)
    assert "another key signed it" in why(talk.offer(job_of("off", RECORD)))
    assert "another key signed it" in why(talk.greet())
    assert untouched(talk)


@pytest.mark.parametrize("field", ["job", "performance", "heads", "sources", "joining", "run"])
def test_a_relay_that_rewrites_an_offer_is_noticed(talk: Talk, field: str) -> None:
    strong, weak = job_of("on", RECORD), job_of("off")
    talk.job = strong
    talk.greet()
    content = wire.encode_offer(
        Offer(run="test", job=strong, performance=CPU, joining=talk.session)
    )
    other = wire.encode_offer(Offer(run="else", job=weak, joining="00" * 32))
    wire.sign_content(content, instruction(talk, "query.join"), four_sites.SIGNER.sign)
    changed = dict(other.config_records["config"])[field]
    if field in ("heads", "sources"):
        changed = "0" * 64
    content.config_records["config"][field] = changed
    assert "isn't what the coordinator signed" in why(Speaker.send(talk, "query.join", content))
    assert untouched(talk)


def instruction(talk: Talk, kind: str, **changed: Any) -> wire.Instruction:
    assert talk.site.roster is not None
    told: dict[str, Any] = {
        "kind": kind,
        "run": "test",
        "job": talk.job.sha256,
        "roster": talk.site.roster.sha256,
        "joining": talk.session,
        "member": 1,
    }
    return wire.Instruction(**told | changed)


def test_an_offer_is_of_the_run_job_and_joining_that_it_is_signed_for(talk: Talk) -> None:
    talk.job = job_of("off", RECORD)
    talk.greet()
    for changed, says in (
        ({"run": "else"}, "signed for the run else, got test"),
        ({"job": job_of("off")}, "signed for the job"),
        ({"joining": "00" * 32}, "signed for the joining"),
    ):
        given: dict[str, Any] = {
            "run": "test",
            "job": talk.job,
            "performance": CPU,
            "joining": talk.session,
        }
        content = wire.encode_offer(Offer(**given | changed))
        assert says in why(talk.send("query.join", content))
    assert untouched(talk)


@pytest.mark.long
def test_an_offer_before_a_greeting_or_after_an_order_is_an_old_one(talk: Talk) -> None:
    talk.job = job_of("off", RECORD)
    talk.session = "ab" * 32  # as if it had been greeted
    offer = Offer(run="test", job=talk.job, performance=CPU, joining=talk.session)
    assert "has started since the joining began" in why(
        talk.send("query.join", wire.encode_offer(offer)), 209
    )
    assert untouched(talk)
    assert not talk.offer(talk.job).has_error()
    again = wire.encode_offer(replace(offer, joining=talk.session))
    assert not talk.send("query.join", again).has_error()  # a repeat that nothing came between
    assert not talk.send("train", order_of(talk)).has_error()
    assert "orders have come since" in why(talk.send("query.join", again))
    assert talk.spent() == 1


# -- orders --------------------------------------------------------------------------------------


@pytest.mark.sample(6)
@pytest.mark.parametrize("mode", ["off", "seal", "on"])
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"member": 2}, "signed for the member 1, got 2"),
        ({"member": 0}, "signed for the member 1, got 0"),
        ({"run": "else"}, "signed for the run test, got else"),
        ({"job": "00" * 32}, "signed for the job"),
        ({"roster": "00" * 32}, "signed for the roster"),
        ({"joining": "00" * 32}, "an old message was repeated"),
        ({"kind": "evaluate"}, "signed as 'evaluate'"),
    ],
)
def test_an_order_for_another_is_refused_and_costs_nothing(
    talk: Talk, mode: str, changed: dict[str, Any], says: str
) -> None:
    job = job_of(mode, RECORD)
    if mode == "on":
        order = talk.order(talk.open(talk.begin(job)))
    else:
        talk.offer(job)
        order = order_of(talk)
    assert says in why(talk.send("train", order, **changed))
    assert talk.spent() == 0
    assert not talk.send("train", order).has_error()
    assert talk.spent() == 1


@pytest.mark.parametrize("mode", ["off", "seal", "on"])
def test_parameters_that_were_changed_on_the_way_are_refused(talk: Talk, mode: str) -> None:
    job = job_of(mode, RECORD)
    if mode == "on":
        order = talk.order(talk.open(talk.begin(job)))
    else:
        talk.offer(job)
        order = order_of(talk)
    wire.sign_content(order, instruction(talk, "train", round=1), four_sites.SIGNER.sign)
    if mode == "on":
        wire.sign_content(
            order, instruction(talk, "train", round=1, attempt=1), four_sites.SIGNER.sign
        )
    kept = order["arrays"]
    moved = order_of(talk, vector=talk.initial + np.float32(1))
    order["arrays"] = moved["arrays"]
    assert "they were changed on the way" in why(Speaker.send(talk, "train", order))
    order.config_records["config"]["model"] = moved.config_records["config"]["model"]
    assert "isn't what the coordinator signed" in why(Speaker.send(talk, "train", order))
    assert talk.spent() == 0
    order["arrays"] = kept


@pytest.mark.parametrize("mode", ["off", "seal"])
def test_an_order_is_obeyed_once(talk: Talk, mode: str) -> None:
    talk.offer(job_of(mode, RECORD))
    first, second = order_of(talk, 1), order_of(talk, 2)
    assert not talk.send("train", first).has_error()
    assert "a round is trained once" in why(Speaker.send(talk, "train", first))
    assert not talk.send("train", second).has_error()
    assert "taken one for round 2" in why(Speaker.send(talk, "train", first))
    assert talk.spent() == 2
    # In another joining a round may be repeated, but not by the old order.
    assert not talk.offer(talk.job).has_error()
    assert "an old message was repeated" in why(Speaker.send(talk, "train", second))
    assert talk.spent() == 2


def test_the_legs_of_another_attempt_are_refused(talk: Talk) -> None:
    protocol = talk.begin(job_of("on", POOLED))
    first = talk.open(protocol)
    order = talk.order(first)
    consent = wire.add_parcel(wire.encode_reply(), "secagg", b"anything")
    talk.open(protocol, 1, 2)
    talk.at = (1, 1)
    for kind, content in (("train", order), ("query.consent", consent), ("query.reveal", consent)):
        assert "is of round 1, attempt 1, and this site is in round 1, attempt 2" in why(
            talk.send(kind, content)
        )
    opening = wire.add_parcel(wire.encode_reply(), "secagg", first.open_for(1))
    assert "attempt of another" not in why(talk.send("query.open", opening))
    assert talk.spent() == 0


@pytest.mark.parametrize("leg", ["query.open", "train", "query.consent", "query.reveal"])
def test_every_leg_of_a_secure_sum_must_be_signed(talk: Talk, leg: str) -> None:
    attempt = talk.open(talk.begin(job_of("on", RECORD)))
    content = talk.order(attempt)
    assert "with the signature of the key" in unsigned(talk, leg, content)
    assert talk.spent() == 0
    talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
    talk.reveal(attempt)
