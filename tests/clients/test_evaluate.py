"""A site's evaluation: noised counts, once, charged before they are drawn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.site_run import SiteRun
from fedmodel.accounting.claims import epsilon
from fedmodel.data import Rows
from fedmodel.errors import BudgetError, LedgerError, ProtocolError, RefusedError
from fedmodel.job import Federation, Job, Model, Privacy, Train
from fedmodel.ledger import Ledger, SpendEntry
from fedmodel.mechanisms import noise
from fedmodel.mechanisms.counts import Counts
from fedmodel.training.evaluate import evaluate
from fedmodel.wire import Offer, Order
from tests.clients.talk import make_site
from tests.jobs import real_job

TEXTS = [f"note {i} of a patient with {'fever' if i % 2 else 'pain'}" for i in range(30)]
LABELS = ["ab"[i % 2] for i in range(30)]
PATIENTS = [f"p{min(i // 2, 11)}" for i in range(30)]  # p11 has 8 rows
ALL = Rows(TEXTS, LABELS, None, PATIENTS)
JOB = real_job(
    model=Model(labels=("a", "b"), max_length=16),
    train=Train(method="head", rounds=3, steps=2, batch_size=8),
    privacy=Privacy(mechanism="dpsgd", epsilon=4.0, delta=1e-3, rate=0.4, evaluation_noise=5.0),
    federation=Federation(test="held-out", min_rows=1),
)
PATIENT = replace(JOB, privacy=replace(JOB.privacy, unit="patient", rows_per_patient=3))
Begin = Callable[..., SiteRun]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    def site_run(job: Job = JOB, folder: Path = tmp_path, **site: Any) -> SiteRun:
        rows, test = site.pop("rows", ALL.select(range(20))), ALL.select(range(20, 30))
        made = make_site(folder, rows, **{"test": test} | site)
        return SiteRun(Offer(run="test", job=job), made)

    return site_run


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "add_gaussian", lambda entropy, total, std: total)


def order(run: SiteRun, round_: int = 3, seed: int = 0) -> Order:
    vector = np.random.default_rng(seed).standard_normal(run.learner.layout.total)
    return Order(
        run="test", round=round_, job_sha256=run.job.sha256, vector=vector.astype(np.float32)
    )


def entries(run: SiteRun) -> list[SpendEntry]:
    found = Ledger(run.site.ledger_file).entries()
    return [entry for entry in found if isinstance(entry, SpendEntry)]


def spent(run: SiteRun) -> float:
    spends = [entry.spend() for entry in entries(run)]
    return epsilon(spends, 1e-3, adjacency=run.job.privacy.adjacency)


@pytest.mark.long
@pytest.mark.usefixtures("no_noise")
def test_without_noise_the_counts_are_the_accuracy_on_the_held_out_rows(
    begin: Begin, tmp_path: Path
) -> None:
    for seed in range(3):
        run = begin(folder=tmp_path / f"{seed}")
        asked = order(run, seed=seed)
        counts = run.evaluate(asked)
        run.learner.load_vector(asked.vector)
        held_out = run._opened().held_out
        assert held_out is not None
        truth = evaluate(run.learner, held_out)["accuracy"]
        assert counts == Counts(values=(round(10 * truth), 10 - round(10 * truth)))


def test_it_is_on_disk_before_the_noise_is_drawn(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = begin(), []
    real = noise.add_gaussian

    def watched(entropy: Any, total: Any, std: float) -> Any:
        seen.append([(e.round, e.attempt, e.steps) for e in entries(run)])
        assert std == 5.0
        return real(entropy, total, std)

    monkeypatch.setattr(noise, "add_gaussian", watched)
    run.evaluate(order(run))
    assert seen == [[(0, 1, 1)]]
    entry = entries(run)[0]
    assert (float(entry.rate), float(entry.noise_multiplier)) == (1.0, 5.0)
    assert (entry.job, entry.unit, entry.kind) == (JOB.sha256, "record", "evaluate")


def test_without_a_ledger_nothing_is_told(begin: Begin, tmp_path: Path) -> None:
    run = begin()
    run.site.ledger_file.unlink()
    run.site.ledger_file.mkdir()
    with pytest.raises(LedgerError, match="ledger"):
        run.evaluate(order(run))
    with pytest.raises(LedgerError, match="ledger"):
        begin()


def test_a_second_time_is_refused_also_by_a_new_process(begin: Begin) -> None:
    run = begin()
    run.evaluate(order(run))
    for again in (run, begin()):
        with pytest.raises(BudgetError, match="one evaluation"):
            again.evaluate(order(again, seed=1))
    assert len(entries(run)) == 1


def test_after_it_the_site_trains_no_more(begin: Begin) -> None:
    run = begin()
    run.train(order(run, 1))
    run.evaluate(order(run))
    for again in (run, begin()):
        with pytest.raises(BudgetError, match="no further step"):
            again.train(order(again, 2))
    assert [e.round for e in entries(run)] == [1, 0]


@pytest.mark.parametrize("round_", [1, 2])
def test_a_site_with_budget_left_answers_when_others_have_ended_the_run(
    begin: Begin, round_: int
) -> None:
    run = begin()
    for number in range(1, round_ + 1):
        given = run.train(order(run, number))
    run.evaluate(order(run, round_))
    assert [e.round for e in entries(run)] == [*range(1, round_ + 1), 0]
    # It was the last thing, whatever round is named.
    for number in (round_ + 1, 1):
        with pytest.raises(BudgetError, match="no further step"):
            run.train(order(run, number, seed=1))
    # What was paid for before may be given again: it is no step.
    again = run.train(order(run, round_))
    assert again.vector.tobytes() == given.vector.tobytes()
    for number in (round_, 3):
        with pytest.raises(BudgetError, match="one evaluation"):
            run.evaluate(order(run, number))
    assert len(entries(run)) == round_ + 1
    assert spent(run) <= 4


@pytest.mark.long
@pytest.mark.parametrize(
    "job",
    [
        replace(JOB, privacy=Privacy()),
        replace(JOB, federation=replace(JOB.federation, test="public")),
        replace(JOB, federation=replace(JOB.federation, test="none")),
        replace(JOB, privacy=replace(JOB.privacy, evaluation="suppressed")),
    ],
    ids=["plain", "public", "no test", "suppressed"],
)
def test_a_job_without_it_is_refused_it(begin: Begin, job: Job) -> None:
    run = begin(job)
    with pytest.raises(ProtocolError, match="no evaluation"):
        run.evaluate(order(run))
    assert not entries(run)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_the_whole_run_with_it_costs_what_was_promised(
    begin: Begin, unit: Any, adjacency: Any
) -> None:
    privacy = replace(JOB.privacy, unit=unit, adjacency=adjacency, epsilon=6.0)
    run = begin(replace(JOB, privacy=privacy))
    for round_ in (1, 2, 3):
        run.train(order(run, round_))
    trained = spent(run)
    run.evaluate(order(run))
    assert trained < spent(run) <= 6
    assert spent(run) > 5.9


def test_repeated_rounds_do_not_eat_its_share(begin: Begin) -> None:
    run = begin()
    for seed in range(3):
        run.train(order(run, 1, seed))
    with pytest.raises(BudgetError, match="no further step"):
        run.train(order(run, 2))
    # Round 1 was the last that all could play, and nothing more can follow.
    run.evaluate(order(run, 1))
    assert spent(run) <= 4


@pytest.mark.usefixtures("no_noise")
def test_of_a_patient_no_more_rows_are_counted_than_agreed(begin: Begin) -> None:
    run = begin(PATIENT)
    counts = run.evaluate(order(run))
    # Rows 20 and 21 are p10's, the other eight p11's.
    assert sum(counts.values) == 2 + 3


@pytest.mark.usefixtures("no_noise")
@pytest.mark.parametrize(("label", "counts"), [("a", (5, 0)), ("b", (0, 5))])
def test_right_and_wrong_answers_are_counted_over_the_chosen_rows_alone(
    begin: Begin, label: str, counts: tuple[int, int]
) -> None:
    held = ALL.select(range(20, 30))
    run = begin(PATIENT, test=Rows(held.texts, [label] * 10, None, held.patients))
    # A head of zeros answers "a" to everything: all ten rows are right, or all are wrong.
    asked = replace(order(run), vector=np.zeros(run.learner.layout.total, dtype=np.float32))
    assert run.evaluate(asked) == Counts(values=counts)


def test_patients_take_more_noise(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    stds: list[float] = []

    def watched(entropy: Any, total: Any, std: float) -> Any:
        stds.append(std)
        return total

    monkeypatch.setattr(noise, "add_gaussian", watched)
    run = begin(PATIENT)
    run.evaluate(order(run))
    assert stds == [15.0]
    assert float(entries(run)[0].clip) == 3.0  # what the noise is over, for who accounts the ledger


def test_a_site_whose_hold_out_is_empty_tells_noise(begin: Begin, tmp_path: Path) -> None:
    for number in range(6):
        run = begin(
            test=ALL.select([]),
            folder=tmp_path / f"{number}",
        )
        counts = run.evaluate(order(run))
        assert max(map(abs, counts.values)) < 50  # ten σ


def test_a_site_that_has_held_out_nothing_refuses_the_job(begin: Begin) -> None:
    with pytest.raises(RefusedError, match="hold some out"):
        begin(test=None)
    begin(replace(JOB, privacy=replace(JOB.privacy, evaluation="suppressed")), test=None)


def test_test_rows_of_other_classes_are_left_out_and_none_is_said_of_them(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    test = Rows.concat([ALL.select(range(20, 30)), Rows(["x"] * 3, ["new"] * 3, None, ["p"] * 3)])
    run = begin(test=test)
    counted = run.evaluate(order(run))
    assert len(counted.values) == 2
    found = run._opened()
    assert found.held_out is not None
    assert len(found.held_out) == 10
    assert "3 of 13 held-out rows have labels that the job doesn't list" in caplog.text


@pytest.mark.long
def test_the_test_rows_count_among_those_delta_protects(begin: Begin) -> None:
    for evaluation in ("noised", "suppressed"):  # what a site declares are all of its rows
        privacy = replace(JOB.privacy, evaluation=evaluation)
        begin(replace(JOB, privacy=replace(privacy, delta=1 / 31)))  # 20 rows and 10
        with pytest.raises(RefusedError, match="must be below 1/records"):
            begin(replace(JOB, privacy=replace(privacy, delta=1 / 25)))
