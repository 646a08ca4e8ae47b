"""Greetings and ends: a joining begins once, is remembered, and is ended by who began it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flwr.app import RecordDict

from clients.authority import Authority
from fedmodel import _files, wire
from fedmodel.errors import ReplayError
from fedmodel.identity import Roster
from fedmodel.identity.signed_roster import SignedMember, SignedRoster
from fedmodel.wire import Leave
from tests.clients.four_sites import RECORD, Talk, job_of
from tests.clients.talk import Speaker
from tests.clients.test_authority import instruction, order_of, unsigned, why


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


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


@pytest.mark.parametrize("edition", [0, 1, 2, 3])
def test_a_greeting_by_an_older_roster_is_told_from_one_by_another(
    edition: int, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only then is there something that the coordinator can do."""
    monkeypatch.setattr(Roster, "edition", 2)
    talk.session = "ab" * 32
    other = replace(hello(talk, "test", "ab"), roster="00" * 32, edition=edition)
    reply = talk.send("query.hello", wire.encode_hello(other), roster="00" * 32)
    failure = wire.decode_error(reply.error)
    assert failure.ahead == (edition == 1)
    assert ("has version 2 of the roster, and this run goes" in failure.reason) == failure.ahead
    assert not failure.away
    assert not (talk.site.state.folder / "runs").exists()


def leaving(talk: Talk) -> RecordDict:
    return wire.encode_leave(Leave(run="test", job_sha256=talk.job.sha256, failed=True))


def holds(talk: Talk) -> bool:
    return talk.site.open_ledger().reservation("test", talk.job.sha256) is not None


@pytest.mark.long
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
