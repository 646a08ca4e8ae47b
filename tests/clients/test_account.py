"""A site's ledger in a job: reserved at the join, given back at the end, held against heads."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fedmodel import wire
from fedmodel._text import show_epsilon
from fedmodel.accounting.planning import make_plan
from fedmodel.data import Rows
from fedmodel.errors import BudgetError
from fedmodel.job import Job, Model, Privacy, Train
from fedmodel.ledger import AbortEntry, DatasetEntry, GiveBackEntry, Request
from fedmodel.ledger.caps import Caps, total
from fedmodel.ledger.site_line import NOWHERE
from fedmodel.ledger.site_state import SiteState
from fedmodel.ledger.tree_head import Standing, TreeHead
from fedmodel.training.learner import resident
from fedmodel.wire import Failure, Leave, Offer
from tests.clients.talk import NODE, RUN, Speaker, make_site
from tests.jobs import CPU, real_job

ROWS = Rows([f"note {i}" for i in range(16)], ["ab"[i % 2] for i in range(16)])
PRIVACY = Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-3, rate=0.5)
JOB = real_job(
    model=Model(labels=("a", "b"), max_length=16),
    train=Train(method="head", rounds=4, steps=2, batch_size=8),
    privacy=PRIVACY,
)
ANOTHER = replace(JOB, train=replace(JOB.train, lr=0.2))


def terms(job: Job = JOB) -> Request:
    rounds, steps = job.train.rounds, job.train.steps
    plan = make_plan(job.privacy, batch_size=8, rounds=rounds, steps=steps, evaluate=False)
    return Request.of(plan)


@functools.cache
def cost(jobs: int) -> float:
    """Return ε of so many jobs."""
    return total(terms().charges() * jobs, "record").epsilon


class Talk(Speaker):
    """Says things to a new process of a site, as a coordinator would."""

    def __init__(self, folder: Path, **site: Any) -> None:
        state = SiteState(folder, site.get("name", "north"))
        values: dict[str, Any] = {
            "rows": ROWS,
            "ledger_path": folder / "ledgers" / "main.jsonl",
            "state": state,
        }
        run, self.asked = site.pop("run", "test"), 0
        super().__init__(make_site(folder, **(values | site)), JOB, run)

    def offer(self, job: Job = JOB, *known: TreeHead) -> Message:
        return self.join(job, *known)

    def train(self, round_: int = 1, entries: int = 0, job: Job = JOB) -> Message:
        """Order a round of parameters that no order had before: it is trained, and paid."""
        self.asked += 1
        vector = wire.pack(resident(job, CPU).initial + np.float32(1e-3 * self.asked))
        return self.send(
            "train", wire.encode_order(self.run_name, round_, job.sha256, vector, entries)
        )

    def leave(self, failed: bool = False, entries: int = 0, job: Job = JOB) -> Message:
        end = Leave(run=self.run_name, job_sha256=job.sha256, failed=failed, entries=entries)
        return self.send("query.leave", wire.encode_leave(end))

    def entries(self) -> list[str]:
        return [e.type for e in self.site.open_ledger().entries()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "north"


def standing(reply: Message) -> Standing:
    assert not reply.has_error(), reply.error
    found = wire.decode_standing(reply.content)
    assert found is not None
    return found


def why(reply: Message) -> Failure:
    assert reply.has_error()
    return wire.decode_error(reply.error)


def test_a_job_from_join_to_leave(folder: Path) -> None:
    talk = Talk(folder)
    joined = standing(talk.offer())
    assert talk.entries() == ["open", "dataset", "reserve"]
    assert joined.head.size == 3
    after = standing(talk.train(1, entries=3))
    after.head.check_follows(joined.head, after.proof)
    assert talk.entries()[3:] == ["spend", "outcome"]
    left = standing(talk.leave(entries=5))
    left.head.check_follows(after.head, left.proof)
    assert isinstance(talk.site.open_ledger().entries()[-1], GiveBackEntry)
    # Who has left, or never was there, has nothing to give back.
    assert wire.decode_standing(talk.leave().content) is None
    assert "hasn't joined the run" in why(talk.train(2)).reason
    assert talk.entries()[3:] == ["spend", "outcome", "give-back"]
    (made,) = talk.site.open_ledger().book().of("test", JOB.sha256)
    assert made.entry.code.startswith("fedmodel ")


@pytest.mark.parametrize("failed", [True, False])
def test_a_session_ends_with_its_own_job_only(folder: Path, failed: bool) -> None:
    talk = Talk(folder)
    talk.offer()
    assert not talk.leave(failed, job=replace(JOB, seed=1)).has_error()
    standing(talk.train(1))
    standing(talk.leave(failed))
    assert "hasn't joined the run" in why(talk.train(1)).reason


def test_a_session_ends_also_where_the_ledger_cannot_be_written(folder: Path) -> None:
    talk = Talk(folder)
    talk.offer()
    talk.site.ledger_file.unlink()
    talk.site.ledger_file.mkdir()
    assert talk.leave().has_error()
    assert "hasn't joined the run" in why(talk.train(1)).reason


def test_what_the_operator_gave_up_is_not_spent(folder: Path) -> None:
    talk = Talk(folder)
    talk.offer()
    talk.site.open_ledger().give_back_run("test")
    assert "holds no reservation" in why(talk.train(1)).reason
    assert talk.entries()[3:] == ["give-back"]


def test_a_run_that_failed_is_aborted_and_can_go_on(folder: Path) -> None:
    talk = Talk(folder)
    talk.offer()
    standing(talk.train(1))
    standing(talk.leave(failed=True))
    assert isinstance(talk.site.open_ledger().entries()[-1], AbortEntry)
    standing(talk.offer())
    held = talk.site.open_ledger().reservation("test", JOB.sha256)
    assert held is not None
    assert sum(s.steps for s in held.held()) == 6
    for round_ in (2, 3, 4):
        standing(talk.train(round_))
    assert why(talk.train(4)).budget


def test_another_process_goes_on_with_the_reservation_and_can_end_it(folder: Path) -> None:
    Talk(folder).offer()
    talk = Talk(folder)
    assert standing(talk.leave()).head.size == 4
    Talk(folder).offer()
    before = Talk(folder).entries()
    standing(Talk(folder).offer())
    assert Talk(folder).entries() == [*before, "dataset"]


def test_without_privacy_nothing_is_kept(folder: Path) -> None:
    talk = Talk(folder)
    job = replace(JOB, privacy=Privacy())
    assert wire.decode_standing(talk.offer(job).content) is None
    assert wire.decode_standing(talk.train(1, job=job).content) is None
    assert wire.decode_standing(talk.leave().content) is None
    assert not folder.exists()


def test_caps_refuse_a_job_before_it_trains_with_the_numbers(folder: Path) -> None:
    caps = Caps(epsilon=(cost(1) + cost(2)) / 2)
    standing(Talk(folder, caps=caps).offer())
    talk = Talk(folder, caps=caps, run="two")
    refusal = why(talk.offer())
    assert refusal.budget
    assert "budget.epsilon" in refusal.reason
    work = talk.app.work(RUN, NODE)
    for told in (work.refusal, work.rule):
        assert show_epsilon(cost(2)) in str(told)  # by the operator, and nobody else
    assert show_epsilon(cost(2)) not in refusal.reason
    assert show_epsilon(cost(1)) not in refusal.reason
    assert "hasn't joined the run" in why(talk.train(1)).reason
    # The first run's reservation still stands; when it ends unspent, the second fits in.
    standing(Talk(folder, caps=caps).leave())
    standing(Talk(folder, caps=caps, run="two").offer())


def test_a_run_that_goes_on_is_not_charged_twice_under_a_cap(folder: Path) -> None:
    caps = Caps(epsilon=(cost(1) + cost(2)) / 2, run_epsilon=(cost(1) + cost(2)) / 2)
    standing(Talk(folder, caps=caps).offer())
    talk = Talk(folder, caps=caps)
    standing(talk.offer())
    standing(talk.train(1))
    standing(Talk(folder, caps=caps).offer())


def test_a_runs_own_cap_counts_what_it_holds(folder: Path) -> None:
    caps = Caps(run_epsilon=(cost(1) + cost(2)) / 2)
    standing(Talk(folder, caps=caps).offer())
    refusal = why(Talk(folder, caps=caps).offer(ANOTHER))
    assert refusal.budget
    assert "budget.run_epsilon" in refusal.reason


def test_charges_of_a_run_are_what_it_has_spent_and_what_it_holds(folder: Path) -> None:
    talk = Talk(folder)
    talk.offer()
    standing(talk.train(1))
    assert talk.run.account is not None
    found = talk.run.account.charges()
    assert found.spent
    assert found.held
    assert found.run == [*found.spent, *found.held]
    assert not found.new  # it goes on with what it holds


def test_a_join_proves_that_the_ledger_has_grown_from_the_newest_head_it_is_offered(
    folder: Path,
) -> None:
    talk = Talk(folder)
    first = standing(talk.offer()).head
    second = standing(talk.train(1, entries=3)).head
    for offered in ((first, second), (second, first)):
        again = standing(Talk(folder).offer(JOB, *offered))
        again.head.check_follows(second, again.proof)


def test_the_guard_of_a_round_knows_what_the_run_has_spent_before(folder: Path) -> None:
    talk = Talk(folder)
    talk.offer()
    account, plan = talk.run.account, talk.run.plan
    assert account is not None
    assert plan is not None
    for round_ in (1, 2, 3):
        account.spend_round(round_, 2, 1.0, NOWHERE)
    possible, guard = account.spend_round(4, 2, 1.0, NOWHERE)
    assert possible == 2
    for _ in range(possible):
        guard.before_step(plan.spend(4, 1))
    with pytest.raises(BudgetError, match="isn't covered by the plan"):
        guard.before_step(plan.spend(4, 1))


def test_a_job_is_held_against_its_own_budget_not_an_earlier_one_of_the_run(folder: Path) -> None:
    talk = Talk(folder)
    talk.offer()
    for round_ in (1, 2, 3, 4):
        standing(talk.train(round_))
    assert why(talk.train(4)).budget
    standing(talk.leave())
    standing(talk.offer(ANOTHER))
    standing(talk.train(1, job=ANOTHER))
    assert talk.spent() == 10


def test_patients_caps_refuse_a_job_that_protects_records(folder: Path) -> None:
    refusal = why(Talk(folder, caps=Caps(unit="patient")).offer())
    assert "privacy=patient" in refusal.reason


def test_a_ledger_older_than_the_coordinators_head_is_refused(folder: Path) -> None:
    talk = Talk(folder)
    talk.offer()
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    newer = standing(talk.train(1)).head
    for path, content in kept.items():
        path.write_bytes(content)  # ledger and head, as an old backup has them
    back = Talk(folder)
    # What is wrong with its files is the site's own affair.
    assert why(back.offer(JOB, newer)).reason == "RollbackError: see the site's own log"
    assert "an old copy" in str(back.app.work(RUN, NODE).refusal)
    assert "hasn't joined the run" in why(back.train(1)).reason
    # Also when it comes to light later, nothing is spent.
    talk = Talk(folder)
    standing(talk.offer())
    before = talk.entries()
    assert "RollbackError" in why(talk.train(1, entries=99)).reason
    assert talk.entries() == before


def test_heads_of_others_are_no_matter_and_forged_ones_are_refused(folder: Path) -> None:
    other = standing(Talk(folder.with_name("south"), name="south").offer()).head
    talk = Talk(folder)
    own = standing(talk.offer(JOB, other)).head
    content = wire.encode_offer(Offer(run="test", job=JOB, tree_heads=(own,)))
    text = str(content.config_records["config"]["heads"])
    content.config_records["config"]["heads"] = text.replace('"size":3', '"size":2')
    assert "doesn't verify" in why(talk.send("query.join", content)).reason


def test_the_rows_of_a_run_are_noted_and_may_not_be_in_two_datasets(folder: Path) -> None:
    talk = Talk(folder, test=Rows(["held out"], ["a"]))
    talk.offer()
    (noted,) = [e for e in talk.site.open_ledger().entries() if isinstance(e, DatasetEntry)]
    assert (noted.rows, noted.added, noted.removed) == (17, 17, 0)
    ledger = folder / "ledgers" / "other.jsonl"
    other = Talk(folder, dataset="other", ledger_path=ledger, rows=ROWS.select(range(3, 16)))
    job = replace(JOB, federation=replace(JOB.federation, min_rows=1))
    assert why(other.offer(job)).reason == "DataError: see the site's own log"
    assert "budget.dataset=main" in str(other.app.work(RUN, NODE).refusal)
    assert other.entries() == []


@pytest.mark.slow
@pytest.mark.long
def test_repeated_rounds_of_a_decaying_schedule_cost_the_last_ones(folder: Path) -> None:
    job = replace(JOB, privacy=replace(PRIVACY, decay=0.5))
    talk = Talk(folder)
    talk.offer(job)
    for round_ in (1, 2, 2, 3, 4):
        standing(talk.train(round_, job=job))
    # The last round was shorter, and there is no more of it.
    assert why(talk.train(4, job=job)).budget
    assert sum(s.steps for s in talk.site.open_ledger().spends()) == 9
    book = talk.site.open_ledger().book()
    spent, held = book.charges()
    assert total([*spent, *held], "record").epsilon <= 3.0
    assert any(e.given_up for r in book.of() for e in r.spent)


def test_patients_are_noted_and_recognised_in_another_dataset(folder: Path) -> None:
    rows = Rows(ROWS.texts, ROWS.labels, None, [f"p{i // 2}" for i in range(16)])
    talk = Talk(folder, rows=rows)
    assert not talk.offer().has_error()
    (noted,) = [e for e in talk.site.open_ledger().entries() if isinstance(e, DatasetEntry)]
    assert (noted.rows, noted.patients) == (16, 8)
    # Other notes of one of them, under another name of the dataset.
    later = Rows([f"later {i}" for i in range(16)], ROWS.labels, None, ["p3", *["q"] * 15])
    path = folder / "ledgers" / "other.jsonl"
    other = Talk(folder, rows=later, dataset="other", ledger_path=path)
    assert other.offer().has_error()
    assert "1 texts or patients of dataset 'other'" in (other.app.work(RUN, NODE).refusal or "")
