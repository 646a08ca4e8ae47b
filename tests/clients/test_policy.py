"""What a site refuses before anything runs, and that its plan tells nothing about it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients import site_run
from clients.declared import Declared, count_units
from clients.policy import (
    Charges,
    Policy,
    SiteFacts,
    broken_rules,
    decide,
)
from clients.site_run import SiteRun
from fedmodel import wire
from fedmodel.accounting.spends import Spend
from fedmodel.data import Rows
from fedmodel.errors import (
    BudgetError,
    ConfigError,
    DataError,
    FedmodelError,
    FloorError,
    RefusedError,
)
from fedmodel.job import Federation, Job, Model, Performance, Privacy, Train
from fedmodel.ledger.caps import Caps, Charge, total
from fedmodel.mechanisms import noise
from fedmodel.secagg.agreement import Floors
from fedmodel.training.examples import Examples
from fedmodel.wire import Offer, Order, failures
from tests.clients.talk import NODE, RUN, Speaker, make_site
from tests.jobs import real_job, summed

JOB = real_job(
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


def begin(job: Job, folder: Path, table: Rows, name: str = "north", **values: Any) -> SiteRun:
    return SiteRun(Offer(run="test", job=job), make_site(folder, table, name=name, **values))


@pytest.mark.sample(1)
@pytest.mark.long
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
        run = begin(job, tmp_path / str(count), rows(count, 7), f"site-{count}")
        stds.append([])
        vector = np.zeros(run.learner.layout.total, np.float32)
        run.train(Order(run="test", round=1, job_sha256=job.sha256, vector=vector))
        plans.append(run.plan)
    assert plans[0] is not None
    assert plans == [plans[0]] * 4
    assert len(stds[0]) == 2
    assert stds == [stds[0]] * 4


def test_patients_as_unit_need_the_patients(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"data\.patient=COLUMN"):
        begin(PATIENT, tmp_path, rows(20))
    held_out = replace(PATIENT, federation=replace(JOB.federation, test="held-out"))
    with pytest.raises(RefusedError, match=r"data\.patient=COLUMN"):
        begin(held_out, tmp_path, rows(20, 5), test=rows(4))
    begin(JOB, tmp_path, rows(20))


@pytest.mark.long
def test_delta_is_held_against_patients_where_they_are_the_unit(tmp_path: Path) -> None:
    delta = 0.1  # below 1/7 patients, above 1/40 rows
    for job, fits in ((JOB, False), (PATIENT, True)):
        asked = replace(job, privacy=replace(job.privacy, delta=delta))
        if fits:
            begin(asked, tmp_path, rows(40, 7))
        else:
            with pytest.raises(Exception, match="below 1/records"):
                begin(asked, tmp_path, rows(40, 7))


def test_the_least_number_of_rows_stays_one_of_rows(tmp_path: Path) -> None:
    job = replace(PATIENT, federation=Federation(min_rows=16))
    begin(job, tmp_path, rows(16, 4))
    with pytest.raises(RefusedError, match="at least 16 rows"):
        begin(job, tmp_path, rows(15, 15))


@pytest.mark.parametrize("private", [False, True])
def test_chance_in_holding_out_does_not_decide_who_takes_part(private: bool) -> None:
    job = replace(JOB if private else replace(JOB, privacy=Privacy()), federation=Federation())
    least = max(job.federation.min_rows, 0 if private else job.train.batch_size)
    short = "federation.min_rows" if job.federation.min_rows >= least else "train.batch_size"
    for out in range(least + 1):
        assert named(job, Policy(), facts(rows(least - out), rows(out))) == []
        fewer = facts(rows(least - out), rows(out - 1)) if out else facts(rows(least - 1))
        assert short in named(job, Policy(), fewer)


def test_a_patient_in_training_and_test_rows_counts_once() -> None:
    privacy = PATIENT.privacy
    assert count_units(privacy, rows(10, 4), rows(6, 3)) == 4
    assert count_units(JOB.privacy, rows(10, 4), rows(6)) == 16


def test_patients_that_nobody_names_are_guessed_by_the_columns_that_are_there() -> None:
    for unread, says in ((("age", "MRN"), "perhaps data.patient=MRN, or"), ((), "=COLUMN, or")):
        with pytest.raises(DataError, match=says):
            count_units(PATIENT.privacy, rows(3, 3), Rows(["a"], ["x"], unread=unread))


def facts(table: Rows, test: Rows | None = None, charges: Charges | None = None) -> SiteFacts:
    told = None if charges is None else lambda: charges
    return SiteFacts(name="north", declared=Declared.of(table, test), charges=told)


def named(job: Job, policy: Policy, known: SiteFacts) -> list[str]:
    return [broken.rule for broken in broken_rules(job, policy, known)]


SPEND = Charge(Spend(0.4, 1.0, 4), "record", "add-remove", 1e-3)
SUMMED = replace(JOB, secagg=summed(6, survivors=5), federation=replace(JOB.federation, sites=6))


def test_a_job_that_fits_breaks_no_rule() -> None:
    assert named(JOB, Policy(), facts(rows(20))) == []
    decide(JOB, Policy(), facts(rows(20)))
    assert named(SUMMED, Policy(), facts(rows(20))) == []


@pytest.mark.parametrize(
    ("rule", "job", "policy", "known", "error"),
    [
        ("labels", JOB, Policy(), facts(Rows(["x"] * 20, ["c"] * 20)), RefusedError),
        (
            "federation.min_rows",
            replace(JOB, federation=Federation(min_rows=21)),
            Policy(),
            facts(rows(20)),
            RefusedError,
        ),
        (
            "train.batch_size",
            replace(JOB, privacy=Privacy()),
            Policy(),
            facts(rows(7)),
            RefusedError,
        ),
        (
            "federation.test",
            replace(JOB, federation=Federation(min_rows=1, test="held-out")),
            Policy(),
            facts(rows(20)),
            RefusedError,
        ),
        (
            "privacy.delta",
            replace(JOB, privacy=replace(JOB.privacy, delta=0.1)),
            Policy(),
            facts(rows(20)),
            RefusedError,
        ),
        ("privacy.delta", PATIENT, Policy(), facts(rows(20)), RefusedError),
        ("floors", SUMMED, Policy(floors=Floors(cohort=7)), facts(rows(20)), FloorError),
        (
            "budget",
            JOB,
            Policy(caps=Caps(epsilon=0.1)),
            facts(rows(20), charges=Charges(new=(SPEND,))),
            BudgetError,
        ),
    ],
)
def test_each_rule_says_no_by_itself_and_names_what_was_asked_and_allowed(
    rule: str, job: Job, policy: Policy, known: SiteFacts, error: type[FedmodelError]
) -> None:
    (broken,) = broken_rules(job, policy, known)
    assert broken.rule == rule
    assert isinstance(broken.error, error)
    assert broken.asked
    assert broken.allowed
    with pytest.raises(error) as raised:
        decide(job, policy, known)
    assert raised.value.rule == f"{rule}: asked {broken.asked}, allowed {broken.allowed}"
    assert raised.value.rule not in str(raised.value)  # which may travel


def test_a_whole_site_as_unit_draws_full_batches_and_needs_the_rows_of_one() -> None:
    whole = Privacy(mechanism="site", unit="site", delta=1e-3, evaluation="suppressed")
    job = replace(SUMMED, privacy=whole)
    assert named(job, Policy(), facts(rows(7))) == ["train.batch_size"]
    assert named(job, Policy(), facts(rows(8))) == []
    assert named(JOB, Policy(), facts(rows(7))) == []  # units are drawn one by one


def test_a_runs_own_cap_counts_what_the_run_has_spent_and_holds() -> None:
    one, two = (total([SPEND] * count, "record").epsilon for count in (1, 2))
    policy = Policy(caps=Caps(run_epsilon=(one + two) / 2))
    for others in (Charges(new=(SPEND,)), Charges(spent=(SPEND,), new=(SPEND,))):
        assert named(JOB, policy, facts(rows(20), charges=others)) == []
    ours = Charges(spent=(SPEND,), new=(SPEND,), run=(SPEND,))
    assert named(JOB, policy, facts(rows(20), charges=ours)) == ["budget"]


def test_the_floor_of_a_cohort_is_about_the_sites_of_a_round_not_of_the_job() -> None:
    sampled = replace(SUMMED, federation=replace(SUMMED.federation, sites=12, fraction=0.5))
    for least, broken in ((6, []), (7, ["floors"])):
        policy = Policy(floors=Floors(cohort=least))
        assert named(sampled, policy, facts(rows(20))) == broken


def test_all_broken_rules_are_listed_and_the_first_one_decides() -> None:
    job = replace(SUMMED, privacy=replace(JOB.privacy, delta=0.1))
    policy = Policy(caps=Caps(epsilon=0.1), floors=Floors(cohort=7))
    known = facts(Rows(["x"] * 20, ["c"] * 20), charges=Charges(new=(SPEND,)))
    assert named(job, policy, known) == ["labels", "floors", "privacy.delta", "budget"]
    with pytest.raises(RefusedError, match=r"model\.labels"):
        decide(job, policy, known)


def test_the_policy_is_asked_before_the_model_is_loaded_or_anything_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: Any) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(site_run, "resident", loaded)
    job = replace(JOB, federation=Federation(min_rows=21))
    with pytest.raises(RefusedError, match="at least 21"):
        begin(job, tmp_path, rows(20))
    capped = make_site(tmp_path, rows(20), caps=Caps(epsilon=0.1))
    with pytest.raises(BudgetError, match=r"budget\.epsilon"):
        SiteRun(Offer(run="test", job=JOB), capped)
    assert {path.name for path in tmp_path.rglob("*.jsonl")} == {"security.jsonl"}


def test_a_site_that_refuses_by_what_it_declares_has_written_its_log_and_no_key(
    tmp_path: Path,
) -> None:
    for job in (
        replace(JOB, federation=Federation(min_rows=21)),
        replace(JOB, privacy=replace(JOB.privacy, delta=0.1)),
        replace(JOB, federation=Federation(min_rows=1, test="held-out")),
    ):
        with pytest.raises(FedmodelError):
            begin(job, tmp_path / "site", rows(20), caps=Caps(epsilon=5.0))
        (home,) = (tmp_path / "site").iterdir()
        assert {path.name for path in home.iterdir()} == {
            "security.jsonl",
            *("refusals.json", "refusals.lock"),
        }


def test_without_caps_the_ledger_is_not_read_for_them(tmp_path: Path) -> None:
    def asked() -> Charges:
        raise AssertionError("the ledger was read")

    known = SiteFacts(name="north", declared=Declared.of(rows(20)), charges=asked)
    assert named(JOB, Policy(), known) == []
    assert named(replace(JOB, privacy=Privacy()), Policy(caps=Caps(epsilon=1.0)), known) == []


def test_a_site_lowers_its_physical_batch_without_making_it_another_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a machine does for itself changes neither the job nor the update."""
    job, seen = replace(JOB, privacy=Privacy()), []
    real = Examples.chunks

    def watched(self: Examples, indices: Any, size: int) -> Any:
        seen.append(size)
        return real(self, indices, size)

    monkeypatch.setattr(Examples, "chunks", watched)
    updates = []
    offer = Offer(run="test", job=job, performance=Performance(device="cpu", physical_batch=8))
    for own in (None, Performance(device="cpu", physical_batch=3)):
        site = make_site(tmp_path, rows(20), performance=own)
        run = SiteRun(offer, site)
        seen.clear()
        vector = np.zeros(run.learner.layout.total, np.float32)
        updates.append(run.train(Order(run="test", round=1, job_sha256=job.sha256, vector=vector)))
        assert set(seen) - {32} == {8 if own is None else 3}
    np.testing.assert_allclose(updates[0].vector, updates[1].vector, atol=1e-6)


def test_an_engine_that_cannot_keep_the_promise_is_refused_whoever_chose_it(
    tmp_path: Path,
) -> None:
    hooks = Performance(device="cpu", engine="hooks", gradient_checkpointing=True)
    offer = Offer(run="test", job=PATIENT, performance=hooks)
    with pytest.raises(ConfigError, match=r"privacy\.engine=fast"):
        SiteRun(offer, make_site(tmp_path, rows(20, 5), performance=None))
    with pytest.raises(ConfigError, match=r"privacy\.engine=fast"):
        SiteRun(Offer(run="test", job=PATIENT), make_site(tmp_path, rows(20, 5), performance=hooks))


def test_an_offer_that_is_refused_leaves_the_run_that_was_joined(tmp_path: Path) -> None:
    talk = Speaker(make_site(tmp_path, rows(20)), JOB)
    assert not talk.join(JOB).has_error()
    reply = talk.join(replace(JOB, federation=Federation(min_rows=99)))
    assert reply.has_error()
    assert reply.error.code == {k: code for code, k, _ in failures._KINDS}[RefusedError]
    work = talk.app.work(RUN, NODE)
    assert work.rule == "federation.min_rows: asked 99, allowed 20"
    talk.job = JOB
    order = wire.encode_order("test", 1, JOB.sha256, wire.pack(talk.learner.initial))
    trained = talk.send("train", order)
    assert not trained.has_error(), trained.error
