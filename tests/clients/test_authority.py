"""What a site with a roster takes from whom: signed by its coordinator, for it, and for now."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from clients.authority import Authority
from fedmodel import _files, wire
from fedmodel.errors import ReplayError
from fedmodel.identity import SigningKey
from fedmodel.identity.signed_roster import SignedMember, SignedRoster
from fedmodel.job import Privacy, SecAgg
from fedmodel.wire import Leave, Offer
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


def why(reply: Message) -> str:
    assert reply.has_error()
    assert reply.error.code == 203  # a ProtocolError
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


def test_an_offer_before_a_greeting_or_after_an_order_is_an_old_one(talk: Talk) -> None:
    talk.job = job_of("off", RECORD)
    talk.session = "ab" * 32  # as if it had been greeted
    offer = Offer(run="test", job=talk.job, performance=CPU, joining=talk.session)
    assert "before this process was asked who it is" in why(
        talk.send("query.join", wire.encode_offer(offer))
    )
    assert untouched(talk)
    assert not talk.offer(talk.job).has_error()
    again = wire.encode_offer(replace(offer, joining=talk.session))
    assert not talk.send("query.join", again).has_error()  # a repeat that nothing came between
    assert not talk.send("train", order_of(talk)).has_error()
    assert "orders have come since" in why(talk.send("query.join", again))
    assert talk.spent() == 1


# -- orders --------------------------------------------------------------------------------------


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


# -- greetings and ends --------------------------------------------------------------------------


def hello(talk: Talk, run: str, joining: str) -> wire.Hello:
    assert talk.site.roster is not None
    return wire.Hello(run=run, joining=joining * 32, roster=talk.site.roster.sha256)


def test_an_old_greeting_begins_no_joining_again(talk: Talk) -> None:
    talk.job = job_of("off", RECORD)
    greeting = wire.encode_hello(hello(talk, "test", "ab"))
    talk.session = "ab" * 32
    assert not talk.send("query.hello", greeting).has_error()
    assert not Speaker.send(talk, "query.hello", greeting).has_error()  # nothing came between
    assert not talk.greet().has_error()
    assert "has begun before" in why(Speaker.send(talk, "query.hello", greeting))
    talk.restart()
    assert "has begun before" in why(Speaker.send(talk, "query.hello", greeting))
    assert not talk.greet().has_error()


def test_a_greeting_is_for_whoever_is_asked_and_of_one_run_and_joining(talk: Talk) -> None:
    talk.session = "ab" * 32
    greeting = wire.encode_hello(hello(talk, "test", "cd"))
    assert "signed for the joining" in why(talk.send("query.hello", greeting))
    other = replace(hello(talk, "test", "ab"), roster="00" * 32)
    assert "signed for the roster" in why(talk.send("query.hello", wire.encode_hello(other)))
    greeting = wire.encode_hello(hello(talk, "else", "ab"))
    assert "signed for the run" in why(talk.send("query.hello", greeting))
    greeting = wire.encode_hello(hello(talk, "test", "ab"))
    assert "signed for the member" in why(talk.send("query.hello", greeting, member=2))
    assert not (talk.site.state.folder / "runs").exists()


def leaving(talk: Talk) -> RecordDict:
    return wire.encode_leave(Leave(run="test", job_sha256=talk.job.sha256, failed=True))


def holds(talk: Talk) -> bool:
    return talk.site.open_ledger().reservation("test", talk.job.sha256) is not None


def test_nobody_else_ends_a_run(talk: Talk) -> None:
    talk.offer(job_of("off", RECORD))
    assert "with the signature of the key" in unsigned(talk, "query.leave", leaving(talk))
    assert "for the member" in why(talk.send("query.leave", leaving(talk), member=3))
    assert holds(talk)
    old = leaving(talk)
    assert not talk.send("query.leave", old).has_error()
    assert not holds(talk)
    # It is resumed; who repeats the end of before ends nothing, in this process or another.
    assert not talk.offer(talk.job).has_error()
    assert "an old message was repeated" in why(Speaker.send(talk, "query.leave", old))
    kept = talk.session
    talk.restart()
    assert "an old message was repeated" in why(Speaker.send(talk, "query.leave", old))
    assert holds(talk)
    talk.session = kept  # as the coordinator knows it; the site's new process wasn't greeted
    assert not talk.send("query.leave", leaving(talk)).has_error()
    assert not holds(talk)


def test_a_site_without_a_roster_takes_what_comes(tmp_path: Path) -> None:
    talk = Talk(tmp_path, roster=None)
    assert not talk.offer(job_of("off")).has_error()
    assert not talk.send("train", order_of(talk)).has_error()
    assert "has no roster" in str(talk.greet().error.reason)


def test_joinings_that_cannot_be_written_down_do_not_begin(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk.job = job_of("off")
    runs = talk.site.state.folder / "runs"
    runs.write_text("a file")
    reply = talk.greet()
    assert reply.has_error()
    assert talk.app._nodes[77, 5].run is None


def test_a_joining_that_was_damaged_on_disk_is_no_known_one(talk: Talk) -> None:
    assert talk.site.roster is not None
    talk.job = job_of("off")
    talk.greet()
    path = talk.kept / "joinings.txt"
    path.write_bytes(path.read_bytes() + b"\xff\xfe\n")
    known = Authority(talk.site, 5)
    assert known._noted("test")[0] == talk.session
    with pytest.raises(ReplayError):
        known._note(instruction(talk, "query.hello"))


# -- one process or several, and power cuts ------------------------------------------------------


def test_of_processes_that_hear_a_greeting_at_once_one_begins_it(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining, heard, real = "ab" * 32, [], _files.locked

    def late(*args: Any, **kwargs: Any) -> Any:
        """Let another process hear it, just before this one writes it down."""
        monkeypatch.setattr(_files, "locked", real)
        heard.append(other.greet(joining).has_error())
        return real(*args, **kwargs)

    assert not talk.greet().has_error()
    other = Talk(talk.site.state.folder.parent)
    monkeypatch.setattr(_files, "locked", late)
    assert "has begun before" in why(talk.greet(joining))
    assert heard == [False]


def test_a_joining_is_remembered_after_one_that_a_power_cut_has_shortened(talk: Talk) -> None:
    assert not talk.greet().has_error()
    path = talk.kept / "joinings.txt"
    path.write_bytes(path.read_bytes() + b"ab12")
    assert not talk.greet().has_error()
    last = talk.session
    talk.restart()
    assert "has begun before" in why(talk.greet(last))


def test_an_order_is_of_the_round_that_it_is_signed_for(talk: Talk) -> None:
    """Else a round could be trained as often as there are numbers."""
    job = job_of("off", RECORD)
    assert not talk.offer(job).has_error()
    for signed in (2, 9):
        said = why(talk.send("train", order_of(talk), round=signed))
        assert f"signed for the round 1, got {signed}: the parts of one message" in said
    assert talk.spent() == 0


@pytest.mark.parametrize("last", ["2020-04-01T00:00:00Z", "2999-04-01T00:00:00Z"])
def test_a_roster_that_has_ended_gives_nobody_authority(talk: Talk, last: str) -> None:
    """Else whoever keeps the next roster from a site would keep a revocation from it for ever."""
    signed = SignedRoster(
        version=1,
        issued="2020-01-01T00:00:00Z",
        expires=last,
        consortium="ee" * 32,
        authority="",
        coordinator=talk.roster.coordinator,
        coordinator_name="office",
        coordinator_tls="fl.example.org",
        seal=talk.roster.seal,
        members=tuple(
            SignedMember(name=each.name, key=each.key, tls=f"s{n}.example.org")
            for n, each in enumerate(talk.roster.members)
        ),
    )
    talk.restart(roster=signed)
    reply = talk.greet()
    assert reply.has_error() == last.startswith("2020")
    if reply.has_error():
        assert reply.error.reason == "ExpiredError: see the site's own log"
        assert not talk.kept.exists()
        return
    assert not talk.offer(job_of("off", RECORD)).has_error()
    node = talk.app._nodes[77, 5]
    node.known_authority()._clock = lambda: datetime(2999, 4, 1, tzinfo=UTC)
    assert "ExpiredError" in str(talk.send("train", order_of(talk)).error.reason)
    assert talk.spent() == 0


def test_an_evaluation_is_of_the_round_that_it_is_signed_for(talk: Talk) -> None:
    assert not talk.offer(job_of("off", RECORD)).has_error()
    said = why(talk.send("evaluate", order_of(talk, 3), round=2))
    assert "signed for the round 3, got 2" in said


def test_the_legs_of_a_joining_before_are_no_bound_for_the_next(talk: Talk) -> None:
    job = job_of("on")
    talk.open(talk.begin(job), 2)
    talk.open(talk.begin(job), 1)  # repeated, in another joining
