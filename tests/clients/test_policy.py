"""What a site refuses before anything runs, and that its plan tells nothing about it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients import policy as rules
from clients.site import Site
from clients.site_run import Session
from fedmodel.data import Rows
from fedmodel.errors import ConfigError, DataError
from fedmodel.job import Federation, Job, Model, Privacy, Train
from fedmodel.mechanisms import noise
from fedmodel.wire import Order

JOB = Job(
    model=Model(labels=("a", "b"), max_length=16),
    train=Train(method="head", rounds=2, steps=2, batch_size=8),
    privacy=Privacy(mechanism="dpsgd", epsilon=4.0, delta=1e-3, rate=0.4),
    federation=Federation(min_rows=1),
)
PATIENT = replace(JOB, privacy=replace(JOB.privacy, unit="patient"))


def rows(count: int, patients: int | None = None) -> Rows:
    texts = [f"note {i} {'fever' if i % 2 else 'pain'}" for i in range(count)]
    named = None if patients is None else [f"p{i % patients}" for i in range(count)]
    return Rows(texts, ["ab"[i % 2] for i in range(count)], None, named)


def site(folder: Path, table: Rows, name: str = "north", **values: Any) -> Site:
    return Site(
        name=name,
        rows=table,
        device="cpu",
        ledger=folder / f"{name}.jsonl",
        state=folder / name,
        run="test",
        **values,
    )


def test_a_private_job_without_a_public_rate_is_refused(tmp_path: Path) -> None:
    job = replace(JOB, privacy=replace(JOB.privacy, rate=None))
    with pytest.raises(ConfigError, match=r"privacy\.rate .*got null"):
        Session(job, site(tmp_path, rows(20)))
    Session(replace(job, privacy=Privacy()), site(tmp_path, rows(20)))


@pytest.mark.parametrize("job", [JOB, PATIENT], ids=["record", "patient"])
def test_sites_of_any_size_have_the_same_plan_and_the_same_noise(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stds: list[list[float]] = []
    real = noise.add_gaussian_

    def watched(entropy: Any, total: Any, std: float) -> None:
        stds[-1].append(std)
        real(entropy, total, std)

    monkeypatch.setattr(noise, "add_gaussian_", watched)
    plans = []
    for count in (8, 20, 21, 90):
        session = Session(job, site(tmp_path, rows(count, 7), f"site-{count}"))
        stds.append([])
        vector = np.zeros(session.learner.layout.total, np.float32)
        session.train(Order(round=1, job_sha256=job.sha256, vector=vector))
        plans.append(session.plan)
    assert plans[0] is not None
    assert plans == [plans[0]] * 4
    assert len(stds[0]) == 2
    assert stds == [stds[0]] * 4


def test_patients_as_unit_need_the_patients(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.patient=COLUMN"):
        Session(PATIENT, site(tmp_path, rows(20)))
    held_out = replace(PATIENT, federation=replace(JOB.federation, test="held-out"))
    with pytest.raises(DataError, match=r"data\.patient=COLUMN"):
        Session(held_out, site(tmp_path, rows(20, 5), test=rows(4)))
    Session(JOB, site(tmp_path, rows(20)))


def test_delta_is_held_against_patients_where_they_are_the_unit(tmp_path: Path) -> None:
    delta = 0.1  # below 1/7 patients, above 1/40 rows
    for job, fits in ((JOB, False), (PATIENT, True)):
        asked = replace(job, privacy=replace(job.privacy, delta=delta))
        if fits:
            Session(asked, site(tmp_path, rows(40, 7)))
        else:
            with pytest.raises(Exception, match="below 1/records"):
                Session(asked, site(tmp_path, rows(40, 7)))


def test_the_least_number_of_rows_stays_one_of_rows(tmp_path: Path) -> None:
    job = replace(PATIENT, federation=Federation(min_rows=16))
    Session(job, site(tmp_path, rows(16, 4)))
    with pytest.raises(DataError, match="at least 16 training rows"):
        Session(job, site(tmp_path, rows(15, 15)))


def test_a_patient_in_training_and_test_rows_counts_once() -> None:
    privacy = PATIENT.privacy
    assert rules.count_units(privacy, rows(10, 4), rows(6, 3)) == 4
    assert rules.count_units(JOB.privacy, rows(10, 4), rows(6)) == 16
