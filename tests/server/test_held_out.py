"""The evaluation on rows held out at the sites, after the last round."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel.errors import BudgetError, ProtocolError, QuorumError, RefusedError
from fedmodel.job import Job
from server import progress
from server.ledger_memory import LedgerMemory
from tests.conftest import new_run
from tests.server.made_up import NODES, PRIVATE, Sites, job_of, only, play


def released_job(n: int = 3, **change: Any) -> Job:
    return replace(job_of(n, test="held-out"), privacy=replace(PRIVATE, **change))


def test_the_sites_are_asked_once_with_the_final_parameters() -> None:
    sites = Sites()
    result = play(released_job(), sites)
    assert sites.released == [(3, node, result.vector.tobytes()) for node in NODES]
    got = result.published
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
    result = play(job, sites)
    assert (sites.released, result.published) == ([], None)


def test_who_does_not_answer_is_left_out_and_named() -> None:
    sites = Sites(joining=only(2, error=RefusedError("our rules")))
    sites.releasing = only(3, error=BudgetError("paid for once"))
    result = play(released_job(), sites)
    got = result.published
    assert got is not None
    assert (got.sites, got.rows, got.failures) == (2, 1100, {3: "paid for once"})
    assert [node for _, node, _ in sites.released] == [3, 4, 5]


def test_where_a_ledger_stands_is_checked_with_the_counts_too() -> None:
    sites = Sites()

    class Doubting(LedgerMemory):
        def note(self, node: int, standing: Any) -> None:
            if sites.released and node == 4:
                raise ProtocolError("no head")

    got = play(released_job(), sites, memory=Doubting()).published
    assert got is not None
    assert (got.sites, got.failures) == (3, {4: "malformed counts: no head"})


def test_a_run_whose_sites_all_refuse_to_release_ends_well() -> None:
    sites = Sites()
    sites.releasing = lambda node, round_: BudgetError("spent")
    result = play(released_job(), sites)
    assert result.rounds == 3
    assert result.published is not None
    assert result.published.accuracy is None


def test_a_resumed_run_keeps_what_was_released_and_asks_nobody_again(tmp_path: Path) -> None:
    folder, job = new_run(tmp_path / "run"), released_job()
    sites = Sites()
    sites.releasing = only(4, error=BudgetError("spent"))
    one = play(job, sites, folder=folder)
    again = Sites(joining=only(*NODES, error=RefusedError("gone")))
    two = play(job, again, folder=folder)
    assert (again.orders, again.released) == ([], [])
    assert one.published == two.published is not None


def test_a_crash_before_the_release_is_kept_asks_again_and_trains_no_more(tmp_path: Path) -> None:
    folder, job = new_run(tmp_path / "run"), released_job()

    def cut(*_: Any) -> Any:
        raise OSError("power cut")

    sites = Sites()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "publish", cut)
        with pytest.raises(OSError, match="power cut"):
            play(job, sites, folder=folder)
    assert len(sites.released) == 4
    # The sites' budgets paid for one answer each; one of them never got the order.
    late = Sites(releasing=only(2, 3, 4, error=BudgetError("paid for once")))
    result = play(job, late, folder=folder)
    assert late.orders == []
    got = result.published
    assert got is not None
    assert (got.sites, sorted(got.failures), got.rows) == (1, [2, 3, 4], 600)


def test_a_run_whose_budgets_are_spent_early_releases_its_last_model(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    sites = Sites(lambda node, round_: BudgetError("spent") if round_ == 3 else None)
    result = play(released_job(), sites, folder=folder)
    assert result.stopped is not None
    assert result.published is not None
    assert sites.released == [(2, node, result.vector.tobytes()) for node in NODES]
    again = Sites()
    resumed = play(released_job(), again, folder=folder)
    assert (again.orders, again.released) == ([], [])
    assert resumed.published == result.published


def test_a_run_without_a_round_has_no_model_to_tell_of() -> None:
    sites = Sites(lambda node, round_: BudgetError("spent"))
    with pytest.raises(QuorumError, match="nothing was trained"):
        play(released_job(), sites)
    assert sites.released == []
