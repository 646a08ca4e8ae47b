"""What came of steps that were charged stands in the site's ledger, whatever came of them."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from clients.account import Account
from clients.exchange.replies import Replies
from fedmodel import _files, wire
from fedmodel.errors import RunFolderError
from fedmodel.ledger import Ledger, OutcomeEntry
from fedmodel.secagg.messages import Upload, decode
from fedmodel.training import local
from fedmodel.update import vector_sha256
from tests.clients.four_sites import POOLED, RECORD, WHOLE, Talk, job_of
from tests.clients.test_kept_update import full, ordered, vector_in
from tests.fedmodel.identity.killed import Killed, killed_at

PLAIN = job_of("off", RECORD)


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


def types(talk: Talk) -> list[str]:
    """Return what the ledger has of steps, in order."""
    found = [entry.type for entry in Ledger(talk.site.ledger_file).entries()]
    return [each for each in found if each in ("spend", "repeat", "outcome")]


def outcomes(talk: Talk) -> list[OutcomeEntry]:
    entries = Ledger(talk.site.ledger_file).entries()
    return [entry for entry in entries if isinstance(entry, OutcomeEntry)]


def test_what_leaves_is_named_and_a_repeated_order_writes_no_second_outcome(talk: Talk) -> None:
    found = vector_in(talk, ordered(talk, PLAIN))
    talk.restart()
    vector_in(talk, ordered(talk, PLAIN))
    assert types(talk) == ["spend", "outcome"]
    (outcome,) = outcomes(talk)
    assert (outcome.result, outcome.update) == ("given", vector_sha256(found))
    assert (outcome.steps, outcome.clips, outcome.manifest) == (1, (), "")
    (held,) = Ledger(talk.site.ledger_file).book().of()
    assert held.spent[0].model == vector_sha256(talk.initial)


@pytest.mark.parametrize("after", [False, True])
def test_steps_of_which_nothing_came_have_failed_and_it_is_not_said_how_far_they_came(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    real = local.train

    def broken(*rest: Any, **more: Any) -> Any:
        if after:
            real(*rest, **more)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(local, "train", broken)
        assert ordered(talk, PLAIN).has_error()
    (outcome,) = outcomes(talk)
    assert (outcome.result, outcome.update, outcome.steps) == ("failed", "", 0)
    vector_in(talk, ordered(talk, PLAIN))
    assert types(talk) == ["spend", "outcome"] * 2
    assert [each.result for each in outcomes(talk)] == ["failed", "given"]


def test_what_was_made_and_could_not_be_kept_has_not_failed_and_is_given_later(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_files.Room, "fill", full)
        assert ordered(talk, PLAIN).has_error()
    assert types(talk) == ["spend"]
    found = vector_in(talk, ordered(talk, PLAIN))
    assert types(talk) == ["spend", "outcome"]
    assert outcomes(talk)[0].update == vector_sha256(found)


def test_an_outcome_that_can_not_be_written_lets_nothing_leave(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "note_outcome", full)
        assert ordered(talk, PLAIN).has_error()
    assert types(talk) == ["spend"]
    vector_in(talk, ordered(talk, PLAIN))
    assert types(talk) == ["spend", "outcome"]


def test_a_masked_update_is_named_as_the_site_signs_it_for_each_attempt(talk: Talk) -> None:
    job = job_of(privacy=RECORD)
    uploads = []
    for _ in range(2):
        reply = masked(talk, job)
        header = wire.parcel(reply.content, "secagg").tobytes()
        uploads.append(decode(Upload, header))
        talk.restart()
    assert types(talk) == ["spend", "outcome", "outcome"]
    told = [(each.update, each.manifest) for each in outcomes(talk)]
    assert told == [(each.vector, each.manifest) for each in uploads]


@pytest.mark.parametrize("privacy", [POOLED, WHOLE])
def test_each_attempt_of_noise_in_shares_has_an_outcome(talk: Talk, privacy: Any) -> None:
    for _ in range(2):
        masked(talk, job_of(privacy=privacy))
        talk.restart()
    assert types(talk) == ["spend", "outcome", "repeat", "outcome"]
    assert [(each.attempt, each.steps) for each in outcomes(talk)] == [(1, 1), (2, 1)]


def test_a_masked_vector_that_can_not_be_kept_has_failed(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RunFolderError("full")

    attempt = talk.open(talk.begin(job_of(privacy=POOLED)))
    with monkeypatch.context() as patch:
        patch.setattr(Replies, "keep", broken)
        assert talk.send("train", talk.order(attempt)).has_error()
    assert [each.result for each in outcomes(talk)] == ["failed"]


def masked(talk: Talk, job: Any) -> Message:
    attempt = talk.open(talk.begin(job))
    reply = talk.send("train", talk.order(attempt))
    assert not reply.has_error(), reply.error
    return reply


def test_that_it_failed_is_only_logged_where_it_can_not_be_written(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RunFolderError(os.strerror(errno.ENOSPC))

    def failing(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(local, "train", failing)
    monkeypatch.setattr(Ledger, "note_outcome", broken)
    reply = ordered(talk, PLAIN)
    assert "MemoryError" in str(reply.error.reason)
    assert "that nothing came of its steps" in caplog.text


@pytest.mark.long
def test_a_site_killed_between_spend_and_outcome_gives_what_it_kept_with_its_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise Killed

    talk = Talk(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Account, "given", dies)
        assert killed_at(10**9, lambda: ordered(talk, PLAIN))
    talk = Talk(tmp_path)
    assert types(talk) == ["spend"]
    assert not Ledger(talk.site.ledger_file).book().outcomes.of(3)
    vector_in(talk, ordered(talk, PLAIN))
    assert types(talk) == ["spend", "outcome"]


@pytest.mark.slow
def test_killed_anywhere_no_update_leaves_without_an_outcome(tmp_path: Path) -> None:
    call, killed = 0, True
    while killed:
        call += 3
        left: list[str] = []
        first = Talk(tmp_path / str(call))
        killed = killed_at(
            call,
            lambda left=left, first=first: left.append(  # type: ignore[misc]
                vector_sha256(vector_in(first, ordered(first, PLAIN)))
            ),
        )
        talk = Talk(tmp_path / str(call))
        if talk.site.ledger_file.exists():
            told = {each.update for each in outcomes(talk)}
            assert set(left) <= told
        left.append(vector_sha256(vector_in(talk, ordered(talk, PLAIN))))
        assert set(left) <= {each.update for each in outcomes(talk)}
        assert types(talk).count("outcome") <= types(talk).count("spend") <= 2
