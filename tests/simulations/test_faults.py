"""Messages that get lost, come twice or too late: in the grid itself, and in whole runs."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from fedmodel.errors import QuorumError
from fedmodel.job import ProposedPrivacy
from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder
from fedmodel.secagg.agreement import Agreement
from simulations.faults import Fault, FaultyGrid, Happened

LEGS = ("query.open", "train", "query.consent", "query.reveal")
NAMES = {"query.open": "open", "train": "upload", "query.consent": "consent"}
RECORD = ProposedPrivacy(mechanism="dpsgd", epsilon=8.0, delta=1e-3)
POOLED = ProposedPrivacy(mechanism="distributed", epsilon=8.0, delta=1e-3)


# -- the grid ------------------------------------------------------------------------------------


def counting(calls: list[tuple[str, int]]) -> ClientApp:
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        calls.append((message.metadata.message_type, context.node_id))
        content = RecordDict({"config": ConfigRecord({"calls": len(calls)})})
        return Message(content, reply_to=message)

    app.train()(answer)
    app.query("open")(answer)
    return app


def grid(calls: list[tuple[str, int]], *faults: Fault) -> FaultyGrid:
    contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in (2, 3)}
    return FaultyGrid(counting(calls), contexts, Run.create_empty(1), faults=faults)


def send(to: FaultyGrid, kind: str = "train") -> list[tuple[int, str]]:
    messages = [Message(RecordDict(), n, kind, group_id="1") for n in (2, 3)]
    replies = to.send_and_receive(messages)
    return [(r.metadata.src_node_id, r.metadata.message_type) for r in replies]


def test_without_faults_it_is_a_loopback_grid() -> None:
    calls: list[tuple[str, int]] = []
    faultless = grid(calls)
    assert send(faultless) == [(2, "train"), (3, "train")]
    assert faultless.happened == []


def test_lost_on_the_way_there_is_never_done() -> None:
    calls: list[tuple[str, int]] = []
    lossy = grid(calls, Fault(what="there", kind="train", node=3, times=(2,)))
    assert [len(send(lossy)) for _ in range(3)] == [2, 1, 2]
    assert calls.count(("train", 3)) == 2
    assert lossy.happened == [Happened("there", "train", 3, 2)]


def test_lost_on_the_way_back_is_done_and_not_heard_of() -> None:
    calls: list[tuple[str, int]] = []
    lossy = grid(calls, Fault(what="back", node=2))
    assert send(lossy) == [(3, "train")]
    assert calls == [("train", 2), ("train", 3)]
    assert send(lossy, "query.open") == [(3, "query.open")]


def test_twice_is_done_twice_and_answered_twice() -> None:
    calls: list[tuple[str, int]] = []
    assert send(grid(calls, Fault(what="twice", node=2))) == [
        (2, "train"),
        (2, "train"),
        (3, "train"),
    ]
    assert calls.count(("train", 2)) == 2


def test_late_comes_with_the_next_replies_once() -> None:
    calls: list[tuple[str, int]] = []
    slow = grid(calls, Fault(what="late", kind="train", node=2))
    assert send(slow) == [(3, "train")]
    assert send(slow, "query.open") == [(2, "train"), (2, "query.open"), (3, "query.open")]
    assert send(slow, "query.open") == [(2, "query.open"), (3, "query.open")]


def test_of_two_faults_the_first_counts() -> None:
    calls: list[tuple[str, int]] = []
    both = grid(calls, Fault(what="there", node=2), Fault(what="back"))
    assert send(both) == []
    assert calls == [("train", 3)]


# -- one site drops out --------------------------------------------------------------------------


def plain(lab: Any, *gone: int, rounds: int = 1, **more: Any) -> Any:
    """Run in the clear, without some nodes in the first round."""
    faults = [Fault(what="there", kind="train", node=n, times=(1,)) for n in gone]
    return lab.run(lab.job("off", rounds=rounds, **more), faults=faults)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("what", ["there", "back", "twice", "late"])
@pytest.mark.parametrize("leg", LEGS)
def test_one_that_drops_out_leaves_the_mean_of_the_others(lab: Any, leg: str, what: Any) -> None:
    job = lab.job(rounds=1)
    ran = lab.run(job, faults=[Fault(what=what, kind=leg, node=4)])
    assert ran.grid.happened
    in_it = leg in ("query.consent", "query.reveal")  # its vector had come before it was gone
    expected = plain(lab) if in_it else plain(lab, 4)
    np.testing.assert_allclose(ran.vector, expected.vector, atol=lab.bound(job))
    (row,) = ran.rows
    (other,) = expected.rows
    assert row["train_loss"] == pytest.approx(other["train_loss"], abs=lab.bound(job))
    assert (row["updates"], row["asked"]) == (5 if in_it else 4, 5)
    name = leg.removeprefix("query.") if leg != "train" else "upload"
    why = "answered more than once" if what == "twice" else "no answer in time"
    assert row["failures"] == {"4": f"{name}: {why}"}
    # What it gave is known, whatever it did afterwards.
    assert ran.result.updates == {2: 1, 3: 1, 4: int(in_it), 5: 1, 6: 1}


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("what", ["there", "back"])
def test_one_that_never_joined_leaves_the_mean_of_the_others(lab: Any, what: Any) -> None:
    job = lab.job(rounds=1)
    ran = lab.run(job, faults=[Fault(what=what, kind="query.join", node=4)])
    np.testing.assert_allclose(ran.vector, plain(lab, 4).vector, atol=lab.bound(job))
    assert ran.result.refused == {4: "no answer in time"}
    assert ran.rows[0]["asked"] == 4


@pytest.mark.slow
@pytest.mark.long
def test_a_join_that_is_answered_twice_is_the_last_one(lab: Any) -> None:
    job = lab.job(rounds=1)
    ran = lab.run(job, faults=[Fault(what="twice", kind="query.join", node=4)])
    np.testing.assert_allclose(ran.vector, plain(lab).vector, atol=lab.bound(job))


@pytest.mark.slow
@pytest.mark.long
def test_a_vector_that_comes_after_its_site_was_declared_dropped_changes_nothing(lab: Any) -> None:
    job = lab.job(rounds=2)
    runs = [
        lab.run(job, faults=[Fault(what=what, kind="train", node=4, times=(1,))])
        for what in ("back", "late")
    ]
    assert runs[0].vector.tobytes() == runs[1].vector.tobytes()
    assert runs[0].rows == runs[1].rows
    assert runs[0].result.updates[4] == 1  # it is back in the second round


# -- too many drop out ---------------------------------------------------------------------------


def two(what: Any, leg: str, *times: int) -> list[Fault]:
    return [Fault(what=what, kind=leg, node=node, times=times) for node in (3, 5)]


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize(("what", "privacy"), [("there", None), ("back", POOLED), ("late", None)])
@pytest.mark.parametrize("leg", LEGS)
def test_where_too_few_answer_the_silent_are_asked_again_and_nothing_is_paid_twice(
    lab: Any, leg: str, what: Any, privacy: Any
) -> None:
    job = lab.job(privacy=privacy, rounds=1)
    ran = lab.run(job, faults=two(what, leg, 1))
    assert len(ran.grid.replies("query.open", 2)) == 1  # one attempt
    assert ran.rows[0]["failures"] == {}
    assert ran.rows[0]["updates"] == 5
    twice = [[c.raw for c in ran.grid.replies(leg, n)] for n in (3, 5)]
    for replies in twice:
        assert len(replies) == (1 if what == "there" else 2)
    if leg != "train":
        assert all(len(set(replies)) == 1 for replies in twice)
    masked = [[c.arrays["parcels/masked"] for c in ran.grid.replies("train", n)] for n in (3, 5)]
    assert all(len(set(vectors)) == 1 for vectors in masked)
    if privacy is None:
        np.testing.assert_allclose(ran.vector, plain(lab).vector, atol=lab.bound(job))
    else:
        assert all(len(ran.spent(node)) == 1 for node in ran.sites)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("what", ["there", "back"])
@pytest.mark.parametrize("leg", LEGS[:2])
def test_a_second_attempt_with_fresh_masks_makes_up_for_the_first(
    lab: Any, leg: str, what: Any
) -> None:
    job = lab.job(rounds=1)
    ran = lab.run(job, faults=two(what, leg, 1, 2))
    np.testing.assert_allclose(ran.vector, plain(lab).vector, atol=lab.bound(job))
    assert ran.rows[0]["failures"] == {}
    assert len(ran.grid.replies("query.open", 2)) == 2
    uploads = [c.arrays["parcels/masked"] for c in ran.grid.replies("train", 2)]
    assert len(uploads) == (1 if leg == "query.open" else 2)
    assert len(set(uploads)) == len(uploads)


@pytest.mark.long
@pytest.mark.parametrize(
    ("leg", "said"), [("query.consent", "agreed on"), ("query.reveal", "revealed")]
)
def test_once_something_was_agreed_on_there_is_no_other_attempt(
    lab: Any, leg: str, said: str
) -> None:
    ran = lab.run(lab.job(rounds=1), faults=two("there", leg, 1, 2), error=QuorumError)
    assert len(ran.grid.replies("query.open", 2)) == 1
    name = leg.removeprefix("query.")
    for part in ("attempt 1 of 2", f"3 of 5 survivors {said}", f"{name}: no answer in time"):
        assert part in str(ran.error)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("leg", LEGS)
def test_a_round_that_fails_names_legs_and_reasons_and_a_resume_goes_on(lab: Any, leg: str) -> None:
    job = lab.job()
    ran = lab.run(job, faults=two("there", leg, 2, 3, 4, 5), error=QuorumError)
    name = leg.removeprefix("query.") if leg != "train" else "upload"
    for part in ("round 2: 0 of 5", f"{name}: no answer in time", "attempt", "resume=true"):
        assert part in str(ran.error)
    assert [row["round"] for row in ran.rows] == [1]
    again = lab.run(job, folder=RunFolder.open(ran.folder.path))
    assert again.result.rounds == 2
    # What some sites have agreed on isn't repeated: that round's sum is lost.
    rounds = 1 if leg in ("query.consent", "query.reveal") else 2
    expected = plain(lab, rounds=rounds)
    np.testing.assert_allclose(again.vector, expected.vector, atol=4 * lab.bound(job))
    sessions = [r.grid.hidden_session for r in (ran, again)]
    assert sessions[0] != sessions[1]


def test_too_few_to_begin_with_are_named_before_any_key_is_shared(lab: Any) -> None:
    faults = two("there", "query.join")
    ran = lab.run(lab.job(), faults=faults, error=QuorumError)
    assert "3 of 5 sites joined, 4 are needed (secagg.survivors)" in str(ran.error)
    assert not ran.grid.replies("query.open")


@pytest.mark.long
def test_a_round_below_the_quorum_is_skipped_if_the_job_says_so(lab: Any) -> None:
    job = lab.job(federation={"below_quorum": "skip"})
    ran = lab.run(job, faults=two("there", "query.consent", 1, 2))
    first, second = ran.rows
    assert (first["updates"], second["updates"]) == (0, 5)
    assert first["failures"] == {str(n): "consent: no answer in time" for n in (3, 5)}
    assert "train_loss" not in first
    assert set(ran.result.updates.values()) == {1}  # nobody's was used in the first
    expected = plain(lab, 3, 5, rounds=2, federation={"below_quorum": "skip", "quorum": 1.0})
    np.testing.assert_allclose(ran.vector, expected.vector, atol=lab.bound(job))


# -- what it costs -------------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("privacy", [RECORD, POOLED])
@pytest.mark.parametrize(("what", "charged"), [("back", 1), ("there", 0), ("late", 1)])
def test_a_site_that_drops_out_after_it_has_spent_is_charged(
    lab: Any, privacy: ProposedPrivacy, what: Any, charged: int
) -> None:
    job = lab.job(privacy=privacy, rounds=1)
    ran = lab.run(job, faults=[Fault(what=what, kind="train", node=4)])
    assert [len(ran.spent(n)) for n in range(2, 7)] == [1, 1, charged, 1, 1]


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize(("privacy", "repeats"), [(POOLED, 1), (RECORD, 0)])
def test_another_attempt_repeats_a_private_update_and_draws_a_shared_sum_anew(
    lab: Any, privacy: ProposedPrivacy, repeats: int
) -> None:
    """What was released with noise of its own may be sent again; a share of noise may not."""
    job = lab.job(privacy=privacy, rounds=2, steps=1)
    ran = lab.run(job, faults=two("back", "train", 1, 2))
    assert ran.rows[0]["updates"] == 5
    for node in range(2, 7):
        assert [e.steps for e in ran.spent(node) if e.round == 1] == [1]
        entries = Ledger(ran.sites[node].ledger_file).entries()
        assert sum(e.type == "repeat" and e.round == 1 for e in entries) == repeats


@pytest.mark.slow
@pytest.mark.long
def test_a_kept_update_is_of_its_round_and_model_only(lab: Any) -> None:
    ran = lab.run(lab.job(privacy=RECORD, rounds=3, steps=1))
    for node in range(2, 7):
        assert [e.round for e in ran.spent(node)] == [1, 2, 3]


TWICE = two("back", "train", 1, 2, 4, 5)  # rounds 1 and 2 take two attempts each


@pytest.mark.long
def test_attempts_of_which_one_at_most_is_ever_opened_are_paid_once(lab: Any) -> None:
    job = lab.job(privacy=POOLED, rounds=3)
    ran = lab.run(job, faults=TWICE)
    assert (ran.result.stopped, ran.result.rounds) == (None, 3)
    for node in range(2, 7):
        assert sum(e.steps for e in ran.spent(node)) == 3


@pytest.mark.slow
@pytest.mark.long
def test_retries_that_use_up_the_budget_end_the_run_within_it(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedmodel.accounting.claims import epsilon

    # As with a roster so large that two sets of its sites could consent.
    monkeypatch.setattr(Agreement, "one_set_of", lambda self, sites: False)
    job = lab.job(privacy=POOLED, rounds=3)
    ran = lab.run(job, faults=TWICE)
    assert "budgets are spent" in str(ran.result.stopped)
    assert ran.result.rounds < 3
    for node in range(2, 7):
        spends = [e.spend() for e in ran.spent(node)]
        assert sum(s.steps for s in spends) <= 3
        assert epsilon(spends, job.privacy.delta) <= job.privacy.epsilon
