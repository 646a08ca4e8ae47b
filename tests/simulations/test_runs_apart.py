"""Runs over one state: each keeps its own, and none in which nothing was trained is done."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.site_run import SiteRun
from fedmodel.errors import QuorumError, RefusedError
from fedmodel.job import ProposedPrivacy
from fedmodel.runs import run_folder_name
from server.rounds import _Run
from simulations.unbegun import discard
from tests.conftest import new_run

pytestmark = pytest.mark.long

RECORD = ProposedPrivacy(mechanism="dpsgd", epsilon=8.0, delta=1e-3)
POOLED = ProposedPrivacy(mechanism="distributed", epsilon=8.0, delta=1e-3)
WHOLE = ProposedPrivacy(
    mechanism="site", unit="site", epsilon=8.0, delta=1e-3, rate=1.0, evaluation="suppressed"
)


def kept(state: Path, site: str, run: str) -> list[str]:
    folder = state / site / "runs" / run_folder_name(run)
    names = sorted(path.name.split("-")[0] for path in folder.glob("[!.]*"))
    # Which joinings have begun, and what it was shown of the coordinator's ledger, it remembers.
    return [name for name in names if name not in ("joinings.txt", "coordinator")]


@pytest.mark.sample(1)
@pytest.mark.parametrize("way", ["on", "kept optimiser"])
def test_a_job_over_one_state_trains_every_round_each_time(
    lab: Any, tmp_path: Path, way: str
) -> None:
    lab.state = tmp_path / "state"
    job = lab.job("on" if way == "on" else "off", optimizer_state="keep")
    ran = [lab.run(job) for _ in range(2)]
    for each in ran:
        assert [row["updates"] for row in each.rows] == [5, 5]
        assert each.result.skipped == 0
        # What only further rounds need is gone with the run; what is closed stays closed.
        closed = ["closed"] if way == "on" else []
        assert kept(lab.state, "s00", each.folder.run) == closed
        assert not any((each.folder.path / "sites").rglob("*.safetensors"))
    assert ran[0].folder.run != ran[1].folder.run
    tolerance = 2 * lab.bound(job) if way == "on" else 0.0
    np.testing.assert_allclose(ran[0].vector, ran[1].vector, rtol=0, atol=tolerance)


@pytest.mark.slow
def test_a_run_that_is_resumed_over_a_shared_state_finds_its_own(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.state = tmp_path / "state"
    job = lab.job("off", optimizer_state="keep", momentum=0.9, rounds=3)
    whole = lab.run(job)
    real = _Run.play

    def cut(self: Any) -> None:
        if self.progress.round == 2:
            raise QuorumError("cut")
        real(self)

    folder = new_run(tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(_Run, "play", cut)
        lab.run(job, folder=folder, error=QuorumError)
    assert kept(lab.state, "s00", folder.run) == ["optimizer", "optimizer"]
    lab.run(job)  # another run of the job meanwhile
    resumed = lab.run(job, folder=folder)
    np.testing.assert_array_equal(resumed.vector, whole.vector)
    assert kept(lab.state, "s00", folder.run) == []


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("secagg", "privacy"),
    [
        ("off", None),
        ("seal", None),
        ("on", None),
        ("off", RECORD),
        ("seal", RECORD),
        ("on", RECORD),
        ("on", POOLED),
        ("on", WHOLE),
    ],
)
@pytest.mark.parametrize("below", ["stop", "skip"])
def test_a_run_in_which_no_site_gave_an_update_is_not_done(
    lab: Any, monkeypatch: pytest.MonkeyPatch, secagg: str, privacy: Any, below: str
) -> None:
    def refuse(self: SiteRun, order: Any, content: Any) -> Any:
        raise RefusedError("not today")

    monkeypatch.setattr(SiteRun, "respond", refuse)
    job = lab.job(secagg, privacy, federation={"below_quorum": below})
    ran = lab.run(job, error=QuorumError)
    assert ran.error is not None
    assert ran.error.exit_code == 1
    says = "nothing was trained: of 2 finished" if below == "skip" else "round 1: 0 of 5 sites gave"
    assert says in str(ran.error)
    assert "not today" in str(ran.error)
    assert ran.folder.summary() is None
    if below == "skip":  # nor is it done when it is resumed
        again = lab.run(job, folder=ran.folder, error=QuorumError)
        assert "nothing was trained" in str(again.error)


def test_a_run_that_was_never_begun_leaves_nothing_in_the_state(tmp_path: Path) -> None:
    state, folder = tmp_path / "state", new_run(tmp_path / "run")
    for run in (folder.run, "another"):
        place = state / "site-1" / "runs" / run_folder_name(run)
        place.mkdir(parents=True)
        (place / "optimizer").touch()
    assert discard(folder, state)
    assert not folder.path.exists()
    assert [path.name for path in (state / "site-1" / "runs").iterdir()] == ["another"]
