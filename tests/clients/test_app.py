"""One site, spoken to through its real Flower app."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

from clients import app as site_app
from fedmodel import wire
from fedmodel.data import Rows
from fedmodel.job import Aggregation, Federation, Job, Model, Privacy, Train
from fedmodel.ledger import Ledger, Part, SpendEntry
from fedmodel.ledger.mechanism import DPSGD
from fedmodel.mechanisms import noise
from fedmodel.training.learner import Learner
from fedmodel.update import Update
from fedmodel.wire import Offer, failures
from tests.clients.talk import NODE, RUN, Speaker, make_site
from tests.jobs import real_job

SECRET = "zebrafinch"
TEXTS = [f"{SECRET} note {i} of a patient with {'fever' if i % 2 else 'pain'}" for i in range(16)]
LABELS = ["ab"[i % 2] for i in range(16)]
PLAIN = real_job(
    model=Model(labels=("a", "b"), max_length=16),
    train=Train(method="head", rounds=4, steps=2, batch_size=8, momentum=0.5),
)
PRIVATE = replace(PLAIN, privacy=Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-3, rate=0.5))
EVALUATED = replace(PRIVATE, federation=Federation(test="held-out"))


class Talk(Speaker):
    """Says things to a site, as a coordinator would."""

    def __init__(self, folder: Path, **site: Any) -> None:
        rows = site.pop("rows", Rows(TEXTS, LABELS))
        super().__init__(make_site(folder, rows, **site), PLAIN)

    def order(self, round_: int = 1, **change: Any) -> Message:
        vector = change.get("vector", self.learner.initial)
        sha256 = change.get("job", self.job.sha256)
        return self.send("train", wire.encode_order("test", round_, sha256, wire.pack(vector)))

    def train(self, round_: int = 1, moved: float = 0.0) -> Update:
        reply = self.order(round_, vector=self.learner.initial + np.float32(moved))
        assert not reply.has_error(), reply.error
        return wire.decode_update(reply.content, self.learner.layout.total)

    def evaluate(self, round_: int = 4, **change: Any) -> Message:
        vector = change.get("vector", self.learner.initial)
        sha256 = change.get("job", self.job.sha256)
        return self.send("evaluate", wire.encode_order("test", round_, sha256, wire.pack(vector)))


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


@pytest.fixture
def draws(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect, each time noise is drawn, how many steps the ledger on disk holds."""
    seen: list[int] = []

    def watch(name: str) -> None:
        real = getattr(noise, name)

        def watched(*arguments: Any) -> Any:
            seen.append(talk.spent())
            return real(*arguments)

        monkeypatch.setattr(noise, name, watched)

    watch("add_gaussian_")  # of a step
    watch("add_gaussian")  # of a release
    return seen


def refusal(reply: Message, kind: str) -> str:
    codes = {k.__name__: code for code, k, _ in failures._KINDS}
    codes["unexpected"] = failures._UNEXPECTED
    assert reply.has_error()
    assert reply.error.code == codes[kind]
    assert SECRET not in str(reply.error)
    return reply.error.reason or ""


# -- what is refused ---------------------------------------------------------------------------


def test_training_before_joining_is_refused(talk: Talk) -> None:
    assert "hasn't joined the run" in refusal(talk.order(), "UnjoinedError")


def test_a_node_without_a_site_is_refused() -> None:
    offer = Message(wire.encode_offer(Offer(run="test", job=PLAIN)), NODE, "query.join")
    reply = site_app.app(offer, Context(RUN, NODE, {}, RecordDict(), {}))
    assert "without a site" in refusal(reply, "ProtocolError")


@pytest.mark.long
@pytest.mark.parametrize("job", [PLAIN, PRIVATE], ids=["plain", "private"])
def test_orders_that_do_not_belong_are_refused_and_cost_nothing(job: Job, talk: Talk) -> None:
    assert not talk.join(job).has_error()
    size = talk.learner.layout.total
    bad = np.full(size, np.nan, np.float32)
    for reply, says in [
        (talk.order(job="0" * 64), "another job"),
        (talk.order(job=replace(job, seed=1).sha256), "another job"),
        (talk.order(round_=5), "rounds 1 to 4"),
        (talk.order(round_=0), "at least 1"),
        (talk.order(vector=np.zeros(size + 1, np.float32)), f"expected {size} parameters"),
        (talk.order(vector=bad), "NaN or infinity"),
    ]:
        assert says in refusal(reply, "ProtocolError")
    assert talk.spent() == 0
    assert not talk.kept.exists()


def test_other_starting_weights_are_refused(talk: Talk) -> None:
    job = replace(PLAIN, weights="0" * 64)
    # Which files a site has is its own affair: the coordinator learns the kind only.
    assert refusal(talk.join(job), "ModelError") == "ModelError: see the site's own log"


# -- what is told ------------------------------------------------------------------------------


@pytest.mark.parametrize("job", [PLAIN, PRIVATE], ids=["plain", "private"])
def test_a_crash_in_training_that_quotes_a_row_is_not_quoted(
    job: Job, talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    def crash() -> None:
        raise KeyError(TEXTS[3])

    talk.join(job)
    talk.on_step = crash
    refusal(talk.order(), "unexpected")
    assert SECRET not in caplog.text
    assert SECRET not in repr(talk.site)


def test_a_plain_update_tells_its_loss_and_as_asked_its_size(talk: Talk) -> None:
    talk.join(PLAIN)
    update = talk.train()
    assert (update.weight, set(update.metrics)) == (1.0, {"train_loss"})
    talk.join(replace(PLAIN, aggregation=Aggregation(weights="examples")))
    assert talk.train().weight == len(TEXTS)
    talk.restart(test=Rows(["a note that is held out"], ["a"]))
    talk.join(replace(PLAIN, aggregation=Aggregation(weights="examples")))
    assert talk.train().weight == len(TEXTS)


def test_a_private_update_tells_neither_loss_nor_size(talk: Talk) -> None:
    talk.join(PRIVATE)
    reply = talk.order()
    assert dict(reply.content.metric_records["metrics"]) == {"weight": 1.0}
    assert set(reply.content.config_records["config"]) == {"version", "head", "proof"}
    assert set(reply.content) == {"arrays", "metrics", "config"}


@pytest.mark.long
def test_an_evaluation_tells_two_whole_numbers_and_nothing_else(talk: Talk) -> None:
    talk.restart(test=Rows(TEXTS[:6], LABELS[:6]))
    talk.join(EVALUATED)
    reply = talk.evaluate()
    assert not reply.has_error(), reply.error
    assert set(reply.content) == {"metrics", "config"}
    metrics: dict[str, Any] = dict(reply.content.metric_records["metrics"])
    assert set(metrics) == {"counts"}
    assert [type(value) for value in metrics["counts"]] == [int, int]
    assert set(reply.content.config_records["config"]) == {"version", "head", "proof"}


def test_an_evaluation_proves_that_the_ledger_has_grown_from_where_the_order_knows_it(
    tmp_path: Path,
) -> None:
    talk = Talk(tmp_path, test=Rows(TEXTS[:3], LABELS[:3]))
    assert not talk.join(EVALUATED).has_error()
    joined = talk.run.standing()
    assert joined is not None
    vector, size = wire.pack(talk.learner.initial), joined.head.size
    reply = talk.send("evaluate", wire.encode_order("test", 4, EVALUATED.sha256, vector, size))
    after = wire.decode_standing(reply.content)
    assert after is not None
    assert after.head.size > size
    after.head.check_follows(joined.head, after.proof)


def test_evaluations_that_do_not_belong_are_refused_and_cost_nothing(talk: Talk) -> None:
    assert "join" in refusal(talk.evaluate(), "UnjoinedError")
    talk.restart(test=Rows(TEXTS[:6], LABELS[:6]))
    assert not talk.join(EVALUATED).has_error()
    size = talk.learner.layout.total
    for reply, says in [
        (talk.evaluate(job=PRIVATE.sha256), "another job"),
        (talk.evaluate(5), "rounds 1 to 4"),
        (talk.evaluate(0), "at least 1"),
        (talk.evaluate(vector=np.zeros(size + 1, np.float32)), f"expected {size} parameters"),
        (talk.evaluate(vector=np.full(size, np.inf, np.float32)), "NaN or infinity"),
    ]:
        assert says in refusal(reply, "ProtocolError")
    assert talk.spent() == 0
    assert not talk.evaluate().has_error()
    assert "one evaluation" in refusal(talk.evaluate(), "BudgetError")


def test_a_crash_in_an_evaluation_that_quotes_a_row_is_not_quoted(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_: Any) -> Any:
        raise KeyError(TEXTS[3])

    talk.restart(test=Rows(TEXTS[:6], LABELS[:6]))
    talk.join(EVALUATED)
    monkeypatch.setattr(Learner, "logits", crash)
    refusal(talk.evaluate(), "unexpected")
    assert SECRET not in caplog.text
    # It was charged before, and the plan pays for one.
    monkeypatch.undo()
    refusal(talk.evaluate(), "BudgetError")


# -- what is spent -----------------------------------------------------------------------------


def test_the_spend_is_on_disk_before_the_noise_is_drawn(talk: Talk, draws: list[int]) -> None:
    talk.join(PRIVATE)
    assert talk.spent() == 0
    talk.train(1)
    talk.train(2)
    assert draws == [2, 2, 4, 4]
    entries = Ledger(talk.site.ledger_file).entries()
    found = [(e.round, e.attempt, e.steps) for e in entries if isinstance(e, SpendEntry)]
    assert found == [(1, 1, 2), (2, 1, 2)]
    assert all(
        (e.run, e.job, e.kind) == ("test", PRIVATE.sha256, "train")
        for e in entries
        if isinstance(e, SpendEntry)
    )


def test_without_a_ledger_no_noise_is_drawn(talk: Talk, draws: list[int]) -> None:
    talk.join(PRIVATE)
    talk.site.ledger_file.unlink()
    talk.site.ledger_file.mkdir()  # a folder where the file should be
    refusal(talk.order(), "FedmodelError")
    assert draws == []


def test_a_crash_is_charged_and_the_next_try_is_another_attempt(
    talk: Talk, draws: list[int]
) -> None:
    def crash() -> None:
        raise RuntimeError("power cut")

    talk.join(PRIVATE)
    talk.on_step = crash
    refusal(talk.order(), "unexpected")
    assert talk.spent() == 2
    talk.on_step = lambda: None
    talk.train(1)
    entries = Ledger(talk.site.ledger_file).entries()
    found = [(e.round, e.attempt) for e in entries if isinstance(e, SpendEntry)]
    assert found == [(1, 1), (1, 2)]


def test_a_spent_budget_refuses_and_draws_no_noise(talk: Talk, draws: list[int]) -> None:
    talk.join(PRIVATE)
    for round_, moved in ((1, 0.0), (2, 0.0), (2, 0.5), (3, 0.0)):
        talk.train(round_, moved)  # round 2 is asked for of two models: it costs twice
    assert (talk.spent(), len(draws)) == (8, 8)
    for round_ in (4, 1):
        reason = refusal(talk.order(round_), "BudgetError")
        assert "budget" in reason
    assert wire.decode_error(talk.order(4).error).budget
    assert (talk.spent(), len(draws)) == (8, 8)


def test_a_new_process_remembers_what_was_spent(talk: Talk) -> None:
    talk.join(PRIVATE)
    for round_ in (1, 2, 3, 4):
        talk.train(round_)
    talk.restart()
    talk.join(PRIVATE)
    refusal(talk.order(4, vector=talk.learner.initial + np.float32(1)), "BudgetError")


def test_what_is_left_of_a_round_is_taken(talk: Talk, draws: list[int]) -> None:
    talk.join(PRIVATE)
    plan = talk.run.plan
    assert plan is not None
    seven = Part.of(plan.spend(1, 7), DPSGD)
    ledger = talk.site.open_ledger()
    ledger.spend(seven, run="test", job=PRIVATE.sha256, round=1, clip=1.0)
    talk.train(2)
    assert draws == [8]


def test_without_privacy_there_is_no_ledger(talk: Talk, draws: list[int]) -> None:
    talk.join(PLAIN)
    talk.train()
    assert draws == []
    assert not talk.site.ledger_file.exists()


def test_the_ledger_tells_the_norm_that_each_round_starts_from(talk: Talk) -> None:
    # Shares are bounded to [0, 1]: with a quantile of 1/2 two steps could cancel.
    adaptive = replace(PRIVATE.privacy, clipping="adaptive", clip=0.7, clip_quantile=0.3)
    talk.join(replace(PRIVATE, privacy=adaptive))
    for round_, moved in ((1, 0.0), (2, 0.0), (2, 0.5)):
        talk.train(round_, moved)
    entries = Ledger(talk.site.ledger_file).entries()
    found = [float(e.clip) for e in entries if isinstance(e, SpendEntry)]
    kept = float(next(talk.kept.glob("clip-*-0001.txt")).read_text())
    assert kept != 0.7
    assert found == [0.7, kept, kept]


# -- what is forgotten -------------------------------------------------------------------------


def test_who_has_left_is_forgotten_with_all_rows_and_asked_anew_who_it_is(talk: Talk) -> None:
    talk.join(PRIVATE)
    end = wire.encode_leave(wire.Leave(run="test", job_sha256=PRIVATE.sha256, failed=False))
    assert not talk.send("query.leave", end).has_error()
    node = talk.app._nodes[RUN, NODE]
    assert (node.run, node.site) == (None, None)
    assert not talk.join(PRIVATE).has_error()
