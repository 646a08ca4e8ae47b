"""A site's report to its own operator: what its process noted, and what its ledger says, once."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from clients.report import SiteWork, report_of
from fedmodel import wire
from fedmodel.accounting.claims import claim
from fedmodel.data import Rows
from fedmodel.errors import RollbackError
from fedmodel.job import Federation, Job, Model, Privacy, Train
from fedmodel.ledger import Ledger, lines
from fedmodel.ledger.ledger import _FORM
from fedmodel.wire import Leave
from tests.clients.talk import NODE, RUN, Speaker, make_site
from tests.jobs import real_job

ROWS = Rows([f"note {i}" for i in range(16)], ["ab"[i % 2] for i in range(16)])
JOB = real_job(
    model=Model(labels=("a", "b"), max_length=16),
    train=Train(method="head", rounds=4, steps=2, batch_size=8),
    privacy=Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-3, rate=0.5),
)


def trained(folder: Path, job: Job, rounds: int, run: str = "test") -> Speaker:
    talk = Speaker(make_site(folder, ROWS), job, run)
    assert not talk.join(job).has_error()
    vector = wire.pack(talk.learner.initial)
    for round_ in range(1, rounds + 1):
        reply = talk.send("train", wire.encode_order(run, round_, job.sha256, vector))
        assert not reply.has_error()
    return talk


@pytest.mark.long
def test_it_has_the_figures_that_a_reader_of_the_ledger_works_out(tmp_path: Path) -> None:
    trained(tmp_path, JOB, 2, run="before")
    talk = trained(tmp_path, JOB, 3)
    report = report_of(talk.site, "test", JOB, talk.app.work(RUN, NODE))
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


@pytest.mark.long
def test_its_figures_are_of_the_jobs_own_unit_and_adjacency_and_its_steps_of_training(
    tmp_path: Path,
) -> None:
    privacy = replace(JOB.privacy, unit="patient", adjacency="replace")
    federation = Federation(test="held-out", min_rows=1)
    job = replace(JOB, privacy=privacy, federation=federation)
    whose = [f"p{i // 2}" for i in range(16)]
    table = Rows(ROWS.texts, ROWS.labels, None, whose)
    talk = Speaker(make_site(tmp_path, table, test=table.select(range(4))), job)
    assert not talk.join(job).has_error()
    vector = wire.pack(talk.learner.initial)
    for kind in ("train", "evaluate"):
        assert not talk.send(kind, wire.encode_order("test", 1, job.sha256, vector)).has_error()
    found = report_of(talk.site, "test", job, SiteWork()).ledger
    assert found is not None
    assert [spend.kind for spend in found.spent] == ["train", "evaluate"]
    assert found.steps == 2
    assert found.epsilon == claim(found.spent, 1e-3, "replace").epsilon
    assert found.epsilon_total == found.epsilon


def test_it_is_of_the_job_alone_whatever_else_the_run_had_done(tmp_path: Path) -> None:
    trained(tmp_path, JOB, 2)
    job = replace(JOB, train=replace(JOB.train, lr=0.2))
    talk = trained(tmp_path, job, 1)
    found = report_of(talk.site, "test", job, SiteWork()).ledger
    assert found is not None
    assert found.steps == 2
    assert found.epsilon_total is not None
    assert found.epsilon == claim(found.spent, 1e-3, "add-remove").epsilon < found.epsilon_total


def test_of_rows_whose_records_alone_were_protected_no_figure_of_patients_is_told(
    tmp_path: Path,
) -> None:
    talk = trained(tmp_path, JOB, 1)
    job = replace(JOB, privacy=replace(JOB.privacy, unit="patient"))
    found = report_of(talk.site, "test", job, SiteWork()).ledger
    assert found is not None
    assert (found.epsilon, found.epsilon_total, found.steps) == (0.0, None, 0)


def test_the_ledger_is_read_and_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = trained(tmp_path, JOB, 2)
    read: list[bytes] = []
    real = lines.decode

    def decode(line: bytes) -> Any:
        read.append(line)
        return real(line)

    monkeypatch.setattr("fedmodel.ledger.ledger._FORM", replace(_FORM, decode=decode))
    report_of(talk.site, "test", JOB, SiteWork())
    assert read == talk.site.ledger_file.read_bytes().splitlines()


def test_without_privacy_or_a_ledger_there_is_no_word_of_one(tmp_path: Path) -> None:
    plain = real_job(model=JOB.model, train=JOB.train)
    talk = trained(tmp_path, plain, 1)
    assert report_of(talk.site, "test", plain, talk.app.work(RUN, NODE)).ledger is None
    assert report_of(talk.site, "test", JOB, SiteWork()).ledger is None  # it was never asked
    assert talk.app.work(RUN, NODE + 1) == SiteWork()


def test_seconds_add_up_over_joinings_and_a_refusal_is_in_its_own_words(tmp_path: Path) -> None:
    talk = trained(tmp_path, JOB, 1)
    talk.run.train_seconds = 5.0
    first = talk.app.work(RUN, NODE)
    talk.join(JOB)
    assert talk.app.work(RUN, NODE).seconds == 5.0  # of the joining before
    vector = wire.pack(talk.learner.initial)
    talk.send("train", wire.encode_order("test", 2, JOB.sha256, vector))
    second = talk.app.work(RUN, NODE)
    assert second.seconds > first.seconds
    talk.send("train", wire.encode_order("test", 9, JOB.sha256, vector))
    refusal = talk.app.work(RUN, NODE).refusal
    assert refusal is not None
    assert "rounds 1 to 4" in refusal
    with pytest.raises(FrozenInstanceError):
        second.seconds = 0.0  # type: ignore[misc]


@pytest.mark.parametrize("lines", [0, 3, None])
def test_what_a_run_has_cost_is_not_told_from_half_a_ledger(
    tmp_path: Path, lines: int | None
) -> None:
    talk = trained(tmp_path, JOB, 2)
    path = talk.site.ledger_file
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:lines]))
    if lines is None:
        path.unlink()
    with pytest.raises(RollbackError, match="a head of 7 was signed"):
        report_of(talk.site, "test", JOB, talk.app.work(RUN, NODE))
    # One that took no part says why; what the others did stands.
    aside = report_of(talk.site, "test", JOB, SiteWork(refusal="its ledger is an old copy"))
    assert (aside.ledger is None) == (lines is None)


@pytest.mark.parametrize("before", [False, True])
def test_a_site_that_trained_has_spent_though_its_tree_head_is_gone_too(
    tmp_path: Path, before: bool
) -> None:
    if before:
        trained(tmp_path, JOB, 1, run="before")
    site = make_site(tmp_path, ROWS)
    files = [site.ledger_file, site.state.head_path(site.dataset)]
    old = {path: path.read_bytes() for path in files if path.exists()}
    talk = trained(tmp_path, JOB, 1)
    for path in files:
        if path in old:
            path.write_bytes(old[path])
        else:
            path.unlink()
    with pytest.raises(RollbackError, match="nothing of the run 'test', in which the site trained"):
        report_of(talk.site, "test", JOB, talk.app.work(RUN, NODE))


def test_a_ledger_that_is_gone_is_not_one_that_holds_nothing(tmp_path: Path) -> None:
    talk = trained(tmp_path, JOB, 1)
    talk.site.ledger_file.unlink()
    end = wire.encode_leave(Leave(run="test", job_sha256=JOB.sha256, failed=False, entries=0))
    assert talk.send("query.leave", end).has_error()
