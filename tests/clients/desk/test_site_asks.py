"""A site whose people must approve: before it joins, at every order, and once."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.declared import Declared
from clients.desk import Approvals
from clients.policy import Policy
from fedmodel import config, wire
from fedmodel.data import Rows
from fedmodel.errors import ConfigError, RefusedError
from fedmodel.wire import Leave
from tests.clients.four_sites import Talk as Signed
from tests.clients.four_sites import job_of, nothing
from tests.clients.talk import Speaker
from tests.clients.test_app import PLAIN, PRIVATE, Talk


def desk_of(talk: Speaker) -> Approvals:
    return talk.site.approvals


def say(talk: Speaker, verdict: Any = "approved") -> None:
    desk = desk_of(talk)
    expires = desk.clock().replace(year=desk.clock().year + 1) if verdict == "approved" else None
    desk.decide(desk.find("test"), verdict, talk.site.state.key, page=b"{}", expires=expires)


def order(talk: Talk, round_: int = 1) -> Any:
    vector = wire.pack(talk.learner.initial)
    return talk.send("train", wire.encode_order("test", round_, talk.job.sha256, vector))


def test_by_default_a_site_asks_its_people() -> None:
    assert Policy().approval == "each"


def test_nothing_is_loaded_spent_or_told_before_they_have_said_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(tmp_path, approval="each")
    with monkeypatch.context() as patch:
        patch.setattr("clients.site_run.resident", None)  # no model
        for _ in range(2):
            reply = talk.join(PRIVATE)
            assert reply.has_error()
            assert reply.error.reason == (
                "this job waits for the approval of this site's people (run test)"
            )
    assert talk.spent() == 0
    assert not talk.site.ledger_file.exists()
    say(talk)
    assert not talk.join(PRIVATE).has_error()
    assert not order(talk).has_error()
    assert talk.spent() > 0


def test_a_sites_log_says_how_its_people_decide_where_they_are_waited_for_and_only_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    talk = Talk(tmp_path, approval="each")
    with caplog.at_level(logging.INFO):
        talk.join(PLAIN)
        assert "fedmodel site show RUN site=FILE" in caplog.text
        caplog.clear()
        say(talk)
        talk.join(PLAIN)
        assert "fedmodel site show" not in caplog.text


def test_another_job_of_the_run_another_run_of_the_job_is_another_question(tmp_path: Path) -> None:
    talk = Talk(tmp_path, approval="each")
    talk.join(PLAIN)
    say(talk)
    for job, run in ((PRIVATE, "test"), (PLAIN, "other")):
        assert "waits for the approval" in why(talk.join(job, run=run))
    assert not talk.join(PLAIN).has_error()


def test_the_reservation_says_who_has_approved_this_run(tmp_path: Path) -> None:
    talk = Talk(tmp_path, approval="each")
    talk.join(PRIVATE)
    say(talk)
    talk.join(PRIVATE)
    (held,) = talk.site.open_ledger().book().of()
    grounds = held.entry.grounds
    assert grounds is not None
    assert (grounds.needed, grounds.policy) == (1, config.digest(talk.site.policy))
    (approval,) = grounds.approved
    approval.check(held.entry.run, PRIVATE.sha256)
    assert approval.key == talk.site.state.key.public.hex()
    with pytest.raises(ConfigError, match="expected an approval of"):
        approval.check(held.entry.run, PLAIN.sha256)


@pytest.mark.parametrize("verdict", ["revoked", "refused"])
def test_a_word_that_is_taken_back_stops_the_next_order(tmp_path: Path, verdict: Any) -> None:
    talk = Talk(tmp_path, approval="each")
    talk.join(PRIVATE)
    say(talk)
    talk.join(PRIVATE)
    assert not order(talk).has_error()
    spent = talk.spent()
    say(talk, verdict)
    assert f"people have {verdict}" in why(order(talk, 2))
    assert talk.spent() == spent
    assert f"people have {verdict}" in why(talk.join(PRIVATE))


def test_a_run_that_failed_may_go_on_and_one_that_ended_may_not(tmp_path: Path) -> None:
    talk = Talk(tmp_path, approval="each")
    talk.join(PLAIN)
    say(talk)
    for failed in (True, False):
        assert not talk.join(PLAIN).has_error()
        end = Leave(run="test", job_sha256=PLAIN.sha256, failed=failed)
        assert not talk.send("query.leave", wire.encode_leave(end)).has_error()
    assert "has ended here" in why(talk.join(PLAIN))
    with pytest.raises(RefusedError, match="ended"):
        desk_of(talk).require("test", PLAIN.sha256)


def test_a_restarted_site_remembers(tmp_path: Path) -> None:
    talk = Talk(tmp_path, approval="each")
    talk.join(PLAIN)
    say(talk)
    talk.restart()
    assert not talk.join(PLAIN).has_error()
    talk.restart()
    say(talk, "revoked")
    talk.restart()
    assert "have revoked" in why(talk.join(PLAIN))


def why(reply: Any) -> str:
    return str(reply.error.reason)


def offers(talk: Talk) -> list[tuple[int, str] | None]:
    """Return what a coordinator hears that asks with every threshold it likes."""
    heard: list[tuple[int, str] | None] = []
    for least in (1, 10, 30, 100):
        for labels in (("a", "b"), ("a", "c"), ("b",)):
            for base in (PLAIN, PRIVATE):
                job = replace(
                    base,
                    federation=replace(base.federation, min_rows=least),
                    model=replace(base.model, labels=labels),
                )
                reply = talk.join(job, run=f"probe-{least}-{base is PLAIN}")
                heard.append((reply.error.code, why(reply)) if reply.has_error() else None)
    return heard


FEW, MANY = Rows(["x"] * 30, ["a"] * 30), Rows(["y"] * 50, ["b", "c"] * 25)
BRACKET = Declared(records=(20, 99), labels=("a", "b"))


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize(
    ("approval", "declared", "alike"),
    [("each", None, True), ("auto", None, False), ("auto", BRACKET, True)],
    ids=["asked", "what rows say", "declared"],
)
def test_who_asks_on_and_on_hears_nothing_that_rows_decide(
    tmp_path: Path, approval: Any, declared: Declared | None, *, alike: bool
) -> None:
    """With numbers that follow from rows, the same questions tell the rows apart."""
    heard = []
    for name, rows in (("few", FEW), ("many", MANY)):
        talk = Talk(tmp_path / name, approval=approval)
        talk.restart(rows=rows, declared=declared or Declared.of(rows))
        heard.append(offers(talk))
    assert (heard[0] == heard[1]) == alike
    assert None in heard[0] or approval == "each"


def test_no_leg_of_a_sum_is_answered_once_a_word_is_taken_back(tmp_path: Path) -> None:
    talk = Signed(tmp_path, policy=Policy(approval="each"))
    job = job_of("on")
    assert "waits for the approval" in why(talk.offer(job))
    say(talk)
    attempt = talk.open(talk.begin(job))
    talk.upload(attempt, talk.send("train", talk.order(attempt)), nothing)
    say(talk, "revoked")
    assert "people have revoked" in talk.why("query.consent", attempt.survivors_message())
    talk.at = (2, 1)
    assert "people have revoked" in talk.why("query.open", attempt.open_for(1))
