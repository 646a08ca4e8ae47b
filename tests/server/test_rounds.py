"""Whole runs of the coordinator with made-up sites."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from flwr.supercore.run import Run

from fedmodel.errors import BudgetError, QuorumError, RefusedError, RunError, RunFolderError
from fedmodel.update import Vector
from server import rounds
from server.coordinator import Coordinator
from server.exchange.channel import Channel
from simulations.faults import Fault, FaultyGrid
from tests.conftest import new_run
from tests.server.made_up import INITIAL, NODES, SIZE, Sites, job_of, only, play


def test_a_run_is_the_average_of_its_sites() -> None:
    result = play(job_of(3), Sites())
    expected = INITIAL.astype(np.float64)
    for r in (1, 2, 3):
        noise = [np.random.default_rng((n, r)).standard_normal(SIZE) for n in NODES]
        expected = expected + np.mean([0.1 * x - 0.2 * expected for x in noise], axis=0)
    np.testing.assert_allclose(result.vector, expected, atol=1e-6)
    assert (result.rounds, result.stopped) == (3, None)
    assert len(result.round_seconds) == 3


def test_a_site_that_raises_leaves_the_others_average() -> None:
    sites = Sites(only(3, error=ValueError("boom")))
    result = play(job_of(1, quorum=0.5), sites)
    noise = [np.random.default_rng((n, 1)).standard_normal(SIZE) for n in (2, 4, 5)]
    expected = INITIAL + np.mean([0.1 * x - 0.2 * INITIAL for x in noise], axis=0)
    np.testing.assert_allclose(result.vector, expected, atol=1e-6)


def test_below_the_quorum_the_run_stops_and_says_why() -> None:
    sites = Sites(only(2, 3, error=RefusedError("not today")))
    with pytest.raises(QuorumError) as caught:
        play(job_of(quorum=0.75), sites)
    for part in ("round 1: 2 of 4", "3 are needed", "not today", "resume=true"):
        assert part in str(caught.value)
    result = play(job_of(1, quorum=0.5), sites)
    assert (result.vector != INITIAL).all()


def test_a_skipped_round_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    def trouble(node: int, round_: int) -> Exception | None:
        return ValueError("boom") if round_ == 2 and node != 5 else None

    folder = new_run(tmp_path / "run")
    seen: list[bytes] = []

    def evaluate(vector: Vector) -> dict[str, float]:
        seen.append(vector.tobytes())
        return {"loss": 1.0}

    job = job_of(3, quorum=0.5, below_quorum="skip")
    result = play(job, Sites(trouble), folder=folder, evaluate=evaluate)
    assert seen[0] == seen[1] != seen[2]
    assert result.rounds == 3
    rows = folder.metrics()
    assert [r["updates"] for r in rows] == [4, 1, 4]
    assert set(rows[1]["failures"]) == {"2", "3", "4"}
    assert "train_loss" in rows[0]
    assert "train_loss" not in rows[1]


def test_a_run_in_which_nothing_was_ever_updated_is_not_done(tmp_path: Path) -> None:
    job, folder = job_of(3, quorum=0.5, below_quorum="skip"), new_run(tmp_path / "run")
    for _ in range(2):  # nor is it when it is resumed
        with pytest.raises(QuorumError, match=r"nothing was trained: of 3 .*boom") as caught:
            play(job, Sites(only(2, 3, 4, error=RefusedError("boom"))), folder=folder)
        assert "run it anew" in str(caught.value)
    assert [row["updates"] for row in folder.metrics()] == [1, 1, 1]
    # Also where the sites' budgets end it.
    with pytest.raises(QuorumError, match=r"nothing was trained: .*budgets are spent after round"):
        play(job_of(3), Sites(only(*NODES, error=BudgetError("spent"))))


def test_one_round_that_was_updated_is_a_run(tmp_path: Path) -> None:
    def trouble(node: int, round_: int) -> Exception | None:
        return ValueError("boom") if round_ != 2 else None

    folder = new_run(tmp_path / "run")
    job = job_of(3, quorum=0.5, below_quorum="skip")
    for _ in range(2):  # a resume knows it too
        result = play(job, Sites(trouble), folder=folder)
        assert (result.rounds, result.skipped) == (3, 2)
        assert (result.vector != INITIAL).all()


def test_nobody_at_all_is_below_any_quorum() -> None:
    with pytest.raises(QuorumError, match="0 of 4"):
        play(job_of(quorum=0.01), Sites(only(*NODES, error=ValueError())))


def test_who_does_not_join_is_not_asked_to_train() -> None:
    sites = Sites(joining=only(4, error=RefusedError("our rules")))
    result = play(job_of(2), sites)
    assert sites.asked(1) == sites.asked(2) == [2, 3, 5]
    assert result.refused == {4: "our rules"}


def test_who_is_left_out_is_offered_nothing_and_counts_for_no_quorum() -> None:
    offered: list[int] = []
    sites = Sites(joining=lambda node, _: offered.append(node))
    result = play(job_of(2), sites, exclude=frozenset({3, 5}))
    assert offered == [2, 4]
    assert sites.asked(1) == sites.asked(2) == [2, 4]
    assert {n: "federation.exclude" in why for n, why in result.refused.items()} == dict.fromkeys(
        (3, 5), True
    )
    with pytest.raises(QuorumError, match=r"1 of 4 sites joined, 2 are needed .*left out by"):
        play(job_of(), Sites(), exclude=frozenset({2, 3, 4}))


def test_who_answers_an_offer_twice_has_joined() -> None:
    sites = Sites()
    contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in NODES}
    twice = [Fault(what="twice", kind="query.join", node=4)]
    grid = FaultyGrid(sites.app(), contexts, Run.create_empty(1), faults=twice)
    job = job_of(1)
    result = rounds.run(Channel(grid), Coordinator(job=job, folder=None, initial=INITIAL))
    assert grid.happened
    assert result.refused == {}
    assert sites.asked(1) == list(NODES)


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
    result = play(job_of(6, patience=2), Sites(), evaluate=lambda _: {"loss": next(losses)})
    assert result.rounds == 4
    assert result.stopped is not None
    assert "2 round(s)" in result.stopped


def test_an_early_stop_survives_a_resume(tmp_path: Path) -> None:
    job, folder = job_of(6, patience=1), new_run(tmp_path / "run")
    one = play(job, Sites(), folder=folder, evaluate=lambda _: {"loss": 1.0})
    sites = Sites()
    two = play(job, sites, folder=folder, evaluate=lambda _: {"loss": 1.0})
    assert sites.orders == []
    assert one.vector.tobytes() == two.vector.tobytes()
    assert one.stopped == two.stopped is not None
    assert one.rounds == two.rounds == 2


def test_spent_budgets_end_a_run_without_failure() -> None:
    def trouble(node: int, round_: int) -> Exception | None:
        return BudgetError("spent") if round_ == 3 else None

    result = play(job_of(5), Sites(trouble))
    two = play(job_of(2), Sites())
    assert result.rounds == 2
    assert "budgets are spent" in (result.stopped or "")
    assert result.vector.tobytes() == two.vector.tobytes()


def test_a_spent_budget_and_a_crash_are_a_failure() -> None:
    def trouble(node: int, round_: int) -> Exception | None:
        return BudgetError("spent") if node < 5 else ValueError("boom")

    with pytest.raises(QuorumError, match="0 of 4"):
        play(job_of(), Sites(trouble))


@pytest.mark.sample(3)
@pytest.mark.long
@pytest.mark.parametrize("optimizer", ["fedavg", "fedavgm", "fedadam"])
@pytest.mark.parametrize("crash", [1, 2, 4])
def test_a_resumed_run_ends_bit_for_bit_like_an_unbroken_one(
    optimizer: str, crash: int, tmp_path: Path
) -> None:
    job = job_of(5, optimizer, fraction=0.75)
    whole = play(job, Sites(), folder=new_run(tmp_path / "whole"))

    def trouble(node: int, round_: int) -> Exception | None:
        return ValueError("boom") if round_ == crash else None

    folder = new_run(tmp_path / "broken")
    with pytest.raises(QuorumError):
        play(job, Sites(trouble), folder=folder)
    sites = Sites()
    resumed = play(job, sites, folder=folder)
    assert resumed.vector.tobytes() == whole.vector.tobytes()
    assert min(r for r, _ in sites.orders) == crash
    assert resumed.rounds == 5
    metrics = [(tmp_path / n / "metrics.jsonl").read_text() for n in ("whole", "broken")]
    assert metrics[0] == metrics[1]


def test_a_resumed_run_goes_on_with_its_patience_and_its_count_of_updates(tmp_path: Path) -> None:
    def trouble(node: int, round_: int) -> Exception | None:
        return ValueError("boom") if round_ == 3 or (node, round_) == (5, 1) else None

    losses = iter([1.0, 2.0, 1.5, 1.5, 1.5])
    job, folder = job_of(9, patience=3), new_run(tmp_path / "run")
    parts: dict[str, Any] = {"folder": folder, "evaluate": lambda _: {"loss": next(losses)}}
    with pytest.raises(QuorumError):
        play(job, Sites(trouble), **parts)
    result = play(job, Sites(), **parts)
    assert result.rounds == 4  # none of the last three was better than the first
    assert "3 round(s)" in (result.stopped or "")
    assert result.updates == {2: 4, 3: 4, 4: 4, 5: 3}


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
    first = play(job, Sites(), folder=folder)
    sites = Sites()
    second = play(job, sites, folder=folder)
    assert (first.vector.tobytes(), sites.orders) == (second.vector.tobytes(), [])


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
