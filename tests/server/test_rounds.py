"""Whole runs of the coordinator with made-up sites."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from fedmodel import wire
from fedmodel.errors import BudgetError, QuorumError, RefusedError, RunError, RunFolderError
from fedmodel.job import Aggregation, Federation, Job, Privacy, Train
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update, Vector
from server import rounds
from server.coordinator import Coordinator
from simulations.loopback import LoopbackGrid
from tests.conftest import new_run

SIZE = 5
INITIAL = np.linspace(-1, 1, SIZE, dtype=np.float32)
NODES = (2, 3, 4, 5)
Trouble = Callable[[int, int], Exception | None]


def fine(node: int, round_: int) -> Exception | None:
    return None


@dataclass
class Sites:
    """Sites that answer an order with a change that depends on node, round and vector."""

    trouble: Trouble = fine
    joining: Trouble = fine
    orders: list[tuple[int, int]] = field(default_factory=list)
    releasing: Trouble = fine
    released: list[tuple[int, int, bytes]] = field(default_factory=list)

    def app(self) -> ClientApp:
        app = ClientApp()

        @app.query("join")
        def join(message: Message, context: Context) -> Message:
            error = self.joining(context.node_id, 0)
            if error is not None:
                return wire.encode_error(error, message)
            wire.decode_job(message.content)
            return Message(wire.encode_reply(), reply_to=message)

        @app.train()
        def train(message: Message, context: Context) -> Message:
            order = wire.decode_order(message.content)
            self.orders.append((order.round, context.node_id))
            error = self.trouble(context.node_id, order.round)
            if isinstance(error, BudgetError | RefusedError):
                return wire.encode_error(error, message)
            if error is not None:
                raise error
            noise = np.random.default_rng((context.node_id, order.round)).standard_normal(SIZE)
            change = (0.1 * noise - 0.2 * order.vector).astype(np.float32)
            update = Update.of(change, 1.0, {"train_loss": 1 / order.round})
            return Message(wire.encode_update(update), reply_to=message)

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            order = wire.decode_order(message.content)
            self.released.append((order.round, context.node_id, order.vector.tobytes()))
            error = self.releasing(context.node_id, order.round)
            if error is not None:
                return wire.encode_error(error, message)
            counts = Counts(values=(100 * context.node_id, 100))
            return Message(wire.encode_counts(counts), reply_to=message)

        return app

    def asked(self, round_: int) -> list[int]:
        return sorted(node for r, node in self.orders if r == round_)


PRIVATE = Privacy(mechanism="dpsgd", rate=0.5)


def job_of(n: int = 4, optimizer: Any = "fedavg", seed: int = 0, **federation: Any) -> Job:
    return Job(
        train=Train(rounds=n),
        aggregation=Aggregation(optimizer=optimizer),
        federation=Federation(sites=len(NODES), **federation),
        seed=seed,
    )


def play(job: Job, sites: Sites, **parts: Any) -> tuple[Vector, Coordinator]:
    coordinator = Coordinator(**({"job": job, "folder": None, "initial": INITIAL} | parts))
    contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in NODES}
    grid = LoopbackGrid(sites.app(), contexts, Run.create_empty(1))
    return rounds.run(grid, coordinator), coordinator


def only(*nodes: int, error: Exception) -> Trouble:
    return lambda node, _: error if node in nodes else None


def test_a_run_is_the_average_of_its_sites() -> None:
    vector, coordinator = play(job_of(3), Sites())
    expected = INITIAL.astype(np.float64)
    for r in (1, 2, 3):
        noise = [np.random.default_rng((n, r)).standard_normal(SIZE) for n in NODES]
        expected = expected + np.mean([0.1 * x - 0.2 * expected for x in noise], axis=0)
    np.testing.assert_allclose(vector, expected, atol=1e-6)
    assert (coordinator.outcome.rounds, coordinator.outcome.stopped) == (3, None)
    assert len(coordinator.outcome.round_seconds) == 3


def test_a_site_that_raises_leaves_the_others_average() -> None:
    sites = Sites(only(3, error=ValueError("boom")))
    vector, _ = play(job_of(1, quorum=0.5), sites)
    noise = [np.random.default_rng((n, 1)).standard_normal(SIZE) for n in (2, 4, 5)]
    expected = INITIAL + np.mean([0.1 * x - 0.2 * INITIAL for x in noise], axis=0)
    np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_below_the_quorum_the_run_stops_and_says_why() -> None:
    sites = Sites(only(2, 3, error=RefusedError("not today")))
    with pytest.raises(QuorumError) as caught:
        play(job_of(quorum=0.75), sites)
    for part in ("round 1: 2 of 4", "3 are needed", "not today", "resume=true"):
        assert part in str(caught.value)
    vector, _ = play(job_of(1, quorum=0.5), sites)
    assert (vector != INITIAL).all()


def test_a_skipped_round_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    def trouble(node: int, round_: int) -> Exception | None:
        return ValueError("boom") if round_ == 2 and node != 5 else None

    folder = new_run(tmp_path / "run")
    seen: list[bytes] = []

    def evaluate(vector: Vector) -> dict[str, float]:
        seen.append(vector.tobytes())
        return {"loss": 1.0}

    job = job_of(3, quorum=0.5, below_quorum="skip")
    _, coordinator = play(job, Sites(trouble), folder=folder, evaluate=evaluate)
    assert seen[0] == seen[1] != seen[2]
    assert coordinator.outcome.rounds == 3
    rows = folder.metrics()
    assert [r["updates"] for r in rows] == [4, 1, 4]
    assert set(rows[1]["failures"]) == {"2", "3", "4"}
    assert "train_loss" in rows[0]
    assert "train_loss" not in rows[1]


def test_nobody_at_all_is_below_any_quorum() -> None:
    with pytest.raises(QuorumError, match="0 of 4"):
        play(job_of(quorum=0.01), Sites(only(*NODES, error=ValueError())))


def test_who_does_not_join_is_not_asked_to_train() -> None:
    sites = Sites(joining=only(4, error=RefusedError("our rules")))
    _, coordinator = play(job_of(2), sites)
    assert sites.asked(1) == sites.asked(2) == [2, 3, 5]
    assert coordinator.outcome.refused == {4: "our rules"}


def test_too_few_that_join_end_the_run_before_any_training() -> None:
    sites = Sites(joining=only(2, 3, 4, error=RefusedError("our rules")))
    with pytest.raises(QuorumError, match=r"1 of 4 sites joined, 2 are needed .*our rules"):
        play(job_of(), sites)
    assert sites.orders == []


def test_sampling_is_reproducible_and_differs_from_round_to_round() -> None:
    found = []
    for seed in (0, 0, 1):
        sites = Sites()
        play(job_of(8, fraction=0.5, seed=seed), sites)
        found.append([tuple(sites.asked(r)) for r in range(1, 9)])
    assert found[0] == found[1] != found[2]
    assert {len(nodes) for nodes in found[0]} == {2}
    assert len(set(found[0])) > 2
    assert set().union(*found[0]) == set(NODES)


def test_the_quorum_counts_the_sampled_sites() -> None:
    sites = Sites()
    play(job_of(2, fraction=0.25, quorum=1.0), sites)
    assert [len(sites.asked(r)) for r in (1, 2)] == [1, 1]


def test_patience_stops_a_run_that_no_longer_improves() -> None:
    losses = iter([3.0, 2.0, 2.5, 2.0 - 5e-5, 1.0, 1.0])
    _, coordinator = play(job_of(6, patience=2), Sites(), evaluate=lambda _: {"loss": next(losses)})
    assert coordinator.outcome.rounds == 4
    assert coordinator.outcome.stopped is not None
    assert "2 round(s)" in coordinator.outcome.stopped


def test_an_early_stop_survives_a_resume(tmp_path: Path) -> None:
    job, folder = job_of(6, patience=1), new_run(tmp_path / "run")
    first, one = play(job, Sites(), folder=folder, evaluate=lambda _: {"loss": 1.0})
    sites = Sites()
    second, two = play(job, sites, folder=folder, evaluate=lambda _: {"loss": 1.0})
    assert sites.orders == []
    assert first.tobytes() == second.tobytes()
    assert one.outcome.stopped == two.outcome.stopped is not None
    assert one.outcome.rounds == two.outcome.rounds == 2


def test_spent_budgets_end_a_run_without_failure() -> None:
    def trouble(node: int, round_: int) -> Exception | None:
        return BudgetError("spent") if round_ == 3 else None

    vector, coordinator = play(job_of(5), Sites(trouble))
    two, _ = play(job_of(2), Sites())
    assert coordinator.outcome.rounds == 2
    assert "budgets are spent" in (coordinator.outcome.stopped or "")
    assert vector.tobytes() == two.tobytes()


def test_a_spent_budget_and_a_crash_are_a_failure() -> None:
    def trouble(node: int, round_: int) -> Exception | None:
        return BudgetError("spent") if node < 5 else ValueError("boom")

    with pytest.raises(QuorumError, match="0 of 4"):
        play(job_of(), Sites(trouble))


@pytest.mark.parametrize("optimizer", ["fedavg", "fedavgm", "fedadam"])
@pytest.mark.parametrize("crash", [1, 2, 4])
def test_a_resumed_run_ends_bit_for_bit_like_an_unbroken_one(
    optimizer: str, crash: int, tmp_path: Path
) -> None:
    job = job_of(5, optimizer, fraction=0.75)
    whole, _ = play(job, Sites(), folder=new_run(tmp_path / "whole"))

    def trouble(node: int, round_: int) -> Exception | None:
        return ValueError("boom") if round_ == crash else None

    folder = new_run(tmp_path / "broken")
    with pytest.raises(QuorumError):
        play(job, Sites(trouble), folder=folder)
    sites = Sites()
    resumed, coordinator = play(job, sites, folder=folder)
    assert resumed.tobytes() == whole.tobytes()
    assert min(r for r, _ in sites.orders) == crash
    assert coordinator.outcome.rounds == 5
    metrics = [(tmp_path / n / "metrics.jsonl").read_text() for n in ("whole", "broken")]
    assert metrics[0] == metrics[1]


def test_metrics_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    job, folder = job_of(4), new_run(tmp_path / "run")
    crash = Sites(lambda _, round_: ValueError("boom") if round_ == 3 else None)
    with pytest.raises(QuorumError):
        play(job, crash, folder=folder)
    # As if it was killed between writing the metrics of round 3 and its checkpoint.
    folder.write_metrics([*folder.metrics(), {"round": 3, "updates": 99}])
    play(job, Sites(), folder=folder)
    rows = [json.loads(x) for x in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [r["round"] for r in rows] == [1, 2, 3, 4]
    assert all(r["updates"] == 4 for r in rows)


def test_a_finished_run_asks_nobody_again(tmp_path: Path) -> None:
    job, folder = job_of(2), new_run(tmp_path / "run")
    first, _ = play(job, Sites(), folder=folder)
    sites = Sites()
    second, _ = play(job, sites, folder=folder)
    assert (first.tobytes(), sites.orders) == (second.tobytes(), [])


def test_a_checkpoint_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    play(job_of(1), Sites(), folder=folder)
    with pytest.raises(RunFolderError, match="5 parameters, this job has 6"):
        play(job_of(2), Sites(), folder=folder, initial=np.zeros(6, np.float32))


def test_failures_are_written_without_the_sites_words(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    play(job_of(1), Sites(only(2, error=ValueError("SECRET ROW"))), folder=folder)
    assert "SECRET" not in (folder.path / "metrics.jsonl").read_text()
    assert folder.metrics()[0]["failures"] == {"2": "ValueError"}


def test_a_model_that_diverges_ends_the_run_with_one_clear_error() -> None:
    with pytest.raises(RunError, match=r"diverged in round 1.*lower train\.lr"):
        play(job_of(3), Sites(), evaluate=lambda _: {"loss": float("inf")})


# -- the evaluation after the last round -------------------------------------------------------


def released_job(n: int = 3, **change: Any) -> Job:
    return replace(job_of(n, test="held-out"), privacy=replace(PRIVATE, **change))


def test_the_sites_are_asked_once_with_the_final_parameters() -> None:
    sites = Sites()
    vector, coordinator = play(released_job(), sites)
    assert sites.released == [(3, node, vector.tobytes()) for node in NODES]
    got = coordinator.outcome.released
    assert got is not None
    assert got.accuracy == pytest.approx(14 / 18)
    assert (got.rows, got.sites, got.failures) == (1800, 4, {})
    assert got.noise_std == pytest.approx(2 * PRIVATE.evaluation_noise)


@pytest.mark.parametrize(
    "job",
    [
        job_of(3),
        job_of(3, test="held-out"),
        replace(job_of(3), privacy=PRIVATE),
        replace(job_of(3, test="none"), privacy=PRIVATE),
        released_job(evaluation="suppressed"),
    ],
    ids=["plain", "plain held-out", "public", "no test", "suppressed"],
)
def test_otherwise_nobody_is_asked(job: Job) -> None:
    sites = Sites()
    _, coordinator = play(job, sites)
    assert (sites.released, coordinator.outcome.released) == ([], None)


def test_who_does_not_answer_is_left_out_and_named() -> None:
    sites = Sites(joining=only(2, error=RefusedError("our rules")))
    sites.releasing = only(3, error=BudgetError("paid for once"))
    _, coordinator = play(released_job(), sites)
    got = coordinator.outcome.released
    assert got is not None
    assert (got.sites, got.rows, got.failures) == (2, 1100, {3: "paid for once"})
    assert [node for _, node, _ in sites.released] == [3, 4, 5]


def test_a_run_whose_sites_all_refuse_to_release_ends_well() -> None:
    sites = Sites()
    sites.releasing = lambda node, round_: BudgetError("spent")
    _, coordinator = play(released_job(), sites)
    assert coordinator.outcome.rounds == 3
    assert coordinator.outcome.released is not None
    assert coordinator.outcome.released.accuracy is None


def test_a_resumed_run_keeps_what_was_released_and_asks_nobody_again(tmp_path: Path) -> None:
    folder, job = new_run(tmp_path / "run"), released_job()
    sites = Sites()
    sites.releasing = only(4, error=BudgetError("spent"))
    _, one = play(job, sites, folder=folder)
    again = Sites(joining=only(*NODES, error=RefusedError("gone")))
    _, two = play(job, again, folder=folder)
    assert (again.orders, again.released) == ([], [])
    assert one.outcome.released == two.outcome.released is not None


def test_a_crash_before_the_release_is_kept_asks_again_and_trains_no_more(tmp_path: Path) -> None:
    folder, job = new_run(tmp_path / "run"), released_job()

    def cut(*_: Any) -> Any:
        raise OSError("power cut")

    sites = Sites()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "release", cut)
        with pytest.raises(OSError, match="power cut"):
            play(job, sites, folder=folder)
    assert len(sites.released) == 4
    # The sites' budgets paid for one answer each; one of them never got the order.
    late = Sites(releasing=only(2, 3, 4, error=BudgetError("paid for once")))
    _, coordinator = play(job, late, folder=folder)
    assert late.orders == []
    got = coordinator.outcome.released
    assert got is not None
    assert (got.sites, sorted(got.failures), got.rows) == (1, [2, 3, 4], 600)


def test_a_run_whose_budgets_are_spent_early_releases_its_last_model(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    sites = Sites(lambda node, round_: BudgetError("spent") if round_ == 3 else None)
    vector, coordinator = play(released_job(), sites, folder=folder)
    assert coordinator.outcome.stopped is not None
    assert coordinator.outcome.released is not None
    assert sites.released == [(2, node, vector.tobytes()) for node in NODES]
    again = Sites()
    _, resumed = play(released_job(), again, folder=folder)
    assert (again.orders, again.released) == ([], [])
    assert resumed.outcome.released == coordinator.outcome.released


def test_a_run_without_a_round_has_no_model_to_tell_of() -> None:
    sites = Sites(lambda node, round_: BudgetError("spent"))
    _, coordinator = play(released_job(), sites)
    assert (sites.released, coordinator.outcome.released) == ([], None)
