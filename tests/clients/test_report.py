"""A site's report to its own operator: what its process noted, and what its ledger says, once."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from clients.report import SiteWork, report_of
from fedmodel import wire
from fedmodel.accounting.claims import claim
from fedmodel.data import Rows
from fedmodel.job import Job, Model, Privacy, Train
from fedmodel.ledger import Ledger, journal, lines
from tests.clients.talk import NODE, RUN, Speaker, make_site
from tests.jobs import real_job

ROWS = Rows([f"note {i}" for i in range(16)], ["ab"[i % 2] for i in range(16)])
JOB = real_job(
    model=Model(labels=("a", "b"), max_length=16),
    train=Train(method="head", rounds=4, steps=2, batch_size=8),
    privacy=Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-3, rate=0.5),
)


def trained(folder: Path, job: Job, rounds: int, run: str = "test") -> Speaker:
    talk = Speaker(make_site(folder, ROWS, run=run), job)
    assert not talk.join(job).has_error()
    vector = wire.pack(talk.learner.initial)
    for round_ in range(1, rounds + 1):
        reply = talk.send("train", wire.encode_order(round_, job.sha256, vector))
        assert not reply.has_error()
    return talk


def test_it_has_the_figures_that_a_reader_of_the_ledger_works_out(tmp_path: Path) -> None:
    trained(tmp_path, JOB, 2, run="before")
    talk = trained(tmp_path, JOB, 3)
    report = report_of(talk.site, JOB, talk.app.work(RUN, NODE))
    assert report.ledger is not None
    ledger = Ledger(talk.site.ledger_file)
    ours, every = ledger.spends("test"), ledger.spends()
    assert report.ledger.steps == sum(s.steps for s in ours) == 6
    assert report.ledger.epsilon == claim(ours, 1e-3, "add-remove").epsilon
    assert report.ledger.epsilon_total == claim(every, 1e-3, "add-remove").epsilon
    assert report.ledger.epsilon_total > report.ledger.epsilon > 0
    assert report.ledger.text == talk.site.ledger_file.read_bytes()
    assert report.work.seconds > 0
    assert report.work.refusal is None


def test_the_ledger_is_read_and_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = trained(tmp_path, JOB, 2)
    read: list[bytes] = []
    real = lines.decode

    def decode(line: bytes) -> Any:
        read.append(line)
        return real(line)

    monkeypatch.setattr(journal, "decode", decode)
    report_of(talk.site, JOB, SiteWork())
    assert read == talk.site.ledger_file.read_bytes().splitlines()


def test_without_privacy_or_a_ledger_there_is_no_word_of_one(tmp_path: Path) -> None:
    plain = real_job(model=JOB.model, train=JOB.train)
    talk = trained(tmp_path, plain, 1)
    assert report_of(talk.site, plain, talk.app.work(RUN, NODE)).ledger is None
    assert report_of(talk.site, JOB, SiteWork()).ledger is None  # it was never asked
    assert talk.app.work(RUN, NODE + 1) == SiteWork()


def test_seconds_add_up_over_joinings_and_a_refusal_is_in_its_own_words(tmp_path: Path) -> None:
    talk = trained(tmp_path, JOB, 1)
    first = talk.app.work(RUN, NODE)
    talk.join(JOB)
    vector = wire.pack(talk.learner.initial)
    talk.send("train", wire.encode_order(2, JOB.sha256, vector))
    second = talk.app.work(RUN, NODE)
    assert second.seconds > first.seconds
    talk.send("train", wire.encode_order(9, JOB.sha256, vector))
    refusal = talk.app.work(RUN, NODE).refusal
    assert refusal is not None
    assert "rounds 1 to 4" in refusal
    with pytest.raises(FrozenInstanceError):
        second.seconds = 0.0  # type: ignore[misc]
