"""Runs that share the sites' state: they compose, caps hold, and a rollback is noticed."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedmodel import cli
from fedmodel.accounting.claims import epsilon
from fedmodel.accounting.planning import make_plan
from fedmodel.errors import FedmodelError, QuorumError
from fedmodel.job import Job
from fedmodel.ledger import GiveBackEntry, Ledger, Request
from fedmodel.ledger.caps import total
from fedmodel.ledger.site_state import SiteState, sites_in
from fedmodel.runs import RunFolder
from simulations.run import simulate

pytestmark = pytest.mark.long

JOB = ["debug=fast", "train=head", "privacy.epsilon=2", "federation.sites=3"]


def run(tmp_path: Path, name: str, *overrides: str) -> tuple[dict[str, Any], Path, str]:
    folder = tmp_path / name
    console = Console(file=io.StringIO(), width=200)
    more = [] if any(x.startswith("state=") for x in overrides) else [f"state='{tmp_path}/st'"]
    mapping = cli.compose("simulate", [*JOB, *more, *overrides, f"run='{folder}'"])
    given = [x.split("=")[0] for x in overrides]
    out: io.StringIO = console.file  # type: ignore[assignment]
    try:
        summary = simulate(mapping, console, given=given).to_mapping()
    except FedmodelError as error:
        error.add_note(out.getvalue())  # what the error says no second time
        raise
    return summary, folder, out.getvalue()


def job_of(folder: Path) -> Job:
    return Job.from_mapping(dict(RunFolder.open(folder).manifest.job))


def terms(job: Job) -> Request:
    plan = make_plan(
        job.privacy,
        batch_size=job.train.batch_size,
        rounds=job.train.rounds,
        steps=job.train.steps,
        evaluate=job.publishes_evaluation,
    )
    return Request.of(plan)


def test_runs_that_share_a_state_compose(tmp_path: Path) -> None:
    first, one, text = run(tmp_path, "one")
    second, two, later = run(tmp_path, "two", "seed=1")
    assert "in all runs" not in text
    assert "in all runs" in later
    for site in ("site-1", "site-2", "site-3"):
        state = SiteState(tmp_path / "st" / site, site)
        ledger = state.ledger()
        assert [type(r.end) for r in ledger.book().of()] == [GiveBackEntry] * 2
        spends = ledger.spends()
        whole = epsilon(spends, 1e-4)
        told = second["privacy"]["sites"][site]
        assert told["epsilon_total"] == pytest.approx(whole, rel=1e-6)
        assert told["epsilon"] == pytest.approx(first["privacy"]["sites"][site]["epsilon"])
        assert 2.0 < whole < 4.0
        # The run folder has the ledger as it was when the run ended.
        kept = (tmp_path / "st" / site / "ledgers" / "main.jsonl").read_bytes()
        assert (two / "ledger" / f"{site}.jsonl").read_bytes() == kept
        assert kept.startswith((one / "ledger" / f"{site}.jsonl").read_bytes())
    heads = json.loads((tmp_path / "st" / "coordinator" / "heads.json").read_text())
    assert len(heads["heads"]) == 3
    assert not (two / "sites").exists() or not sites_in(two / "sites")


@pytest.mark.slow
def test_a_site_whose_cap_is_reached_refuses_and_the_others_go_on(tmp_path: Path) -> None:
    _, one, _ = run(tmp_path, "one")
    job = job_of(one)
    # Another project has spent at one site.
    ledger = SiteState(tmp_path / "st" / "site-2", "site-2").ledger()
    ledger.reserve(terms(job), run="elsewhere", job="cd" * 32, code="test")
    cap = total(terms(job).charges() * 2, "record").epsilon * 1.001
    summary, _, text = run(tmp_path, "two", f"budget.epsilon={cap}")
    assert summary["rounds"] == 2
    refused = {name: s["refused"] for name, s in summary["privacy"]["sites"].items()}
    assert refused["site-1"] is None
    assert "budget.epsilon" in str(refused["site-2"])
    assert summary["privacy"]["sites"]["site-2"]["steps"] == 0
    assert "2 of 3 sites joined" in text
    assert "holds within this run only" not in text  # it is over all that share the state
    assert "with what is asked for" in text
    # With a cap that covers nobody, there is no run, and nothing is reserved.
    with pytest.raises(QuorumError, match="budget"):
        run(tmp_path, "three", "budget.epsilon=2.1")
    runs = Ledger(tmp_path / "st" / "site-1" / "ledgers" / "main.jsonl").book().of()
    assert [r.entry.run.rsplit("-", 1)[0] for r in runs] == ["one", "two"]


@pytest.mark.slow
def test_an_old_copy_of_a_ledger_is_noticed_by_the_coordinator(tmp_path: Path) -> None:
    run(tmp_path, "one")
    site = tmp_path / "st" / "site-1"
    kept = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    shutil.copytree(tmp_path / "st", tmp_path / "backup")
    run(tmp_path, "two")
    for path, content in kept.items():
        path.write_bytes(content)
    summary, _, text = run(tmp_path, "three")
    assert "an old copy" in summary["privacy"]["sites"]["site-1"]["refused"]
    assert "site-1 refused: " in text  # in full: its log and ours are one person's
    assert summary["privacy"]["sites"]["site-2"]["refused"] is None
    # Nor does it help to bring back the coordinator's memory too: the run folders are elsewhere.
    shutil.rmtree(tmp_path / "st")
    shutil.copytree(tmp_path / "backup", tmp_path / "st")
    with pytest.raises(
        QuorumError,
        match=r"(?s)0 of 3 sites joined, 2 are needed .*: as said above\n.*an\s+old\s+copy",
    ):
        run(tmp_path, "four")


def test_a_failed_run_gives_back_what_it_has_not_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server import rounds

    real = rounds._Run.play

    def fail(self: Any) -> None:
        if self.progress.round == 1:
            raise QuorumError("the others are gone")
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(rounds._Run, "play", fail)
        with pytest.raises(QuorumError):
            run(tmp_path, "one")
    ledger = Ledger(tmp_path / "st" / "site-1" / "ledgers" / "main.jsonl")
    (held,) = ledger.book().of()
    assert held.end is not None
    assert held.end.type == "abort"
    assert (tmp_path / "one" / "ledger" / "site-1.jsonl").exists()
    summary, _, _ = run(tmp_path, "one", "resume=true", f"state={tmp_path}/st")
    site = summary["privacy"]["sites"]["site-1"]
    assert site["steps"] == 2
    assert site["epsilon"] == site["epsilon_total"] <= 2
    assert [r.end.type for r in ledger.book().of() if r.end] == ["abort", "give-back"]


@pytest.mark.slow
def test_without_a_state_the_run_folder_keeps_it(tmp_path: Path) -> None:
    summary, folder, _ = run(tmp_path, "one", "state=null")
    entries = Ledger(folder / "ledger" / "site-1.jsonl").entries()
    assert [e.type for e in entries] == [
        "open",
        "dataset",
        "reserve",
        "spend",
        "outcome",
        "spend",
        "outcome",
        "give-back",
    ]
    assert (folder / "sites" / "site-1" / "heads" / "main.json").exists()
    site = summary["privacy"]["sites"]["site-1"]
    assert site["epsilon"] == site["epsilon_total"]
    assert cli.main(["budget", f"run='{folder}'", "format=json"]) == 0
    head = json.loads((folder / "heads.json").read_text())["heads"][0]
    assert head["size"] == len(entries)


@pytest.mark.slow
def test_patients_caps_and_records_jobs(tmp_path: Path) -> None:
    with pytest.raises(QuorumError, match="privacy=patient"):
        run(tmp_path, "one", "budget.unit=patient")
    summary, _, _ = run(tmp_path, "two", "privacy=patient", "budget.unit=patient")
    assert summary["privacy"]["unit"] == "patient"
