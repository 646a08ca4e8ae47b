"""What sites tell of their own test rows at the end of a private run, end to end."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import server.progress
from clients.account import Account
from fedmodel import cli
from fedmodel.accounting.claims import claim
from fedmodel.errors import BudgetError
from fedmodel.ledger import Ledger, SpendEntry
from fedmodel.report.tables import sweep_table
from fedmodel.runs import Summary
from simulations.run import simulate

# 300 of these rows are held out; five sites add noise of 22 to the counts.
JOB = ["debug=fast", "train=head", "model=tiny", "data.rows=1500", "data.test_rows=0"]
FEW = "data.rows=300"  # where no figure has to be near the truth


def run(tmp_path: Path, *overrides: str) -> tuple[dict[str, Any], Path, str]:
    folder = tmp_path / "run"
    console = Console(file=io.StringIO(), width=100)
    mapping = cli.compose("simulate", [*JOB, *overrides, f"run='{folder}'"])
    given = [x.split("=")[0] for x in overrides if x.startswith("resume")]
    summary = simulate(mapping, console, given=given).to_mapping()
    return summary, folder, console.file.getvalue()  # type: ignore[attr-defined]


def entries(folder: Path, site: str) -> list[SpendEntry]:
    found = Ledger(folder / "ledger" / f"{site}.jsonl").entries()
    return [entry for entry in found if isinstance(entry, SpendEntry)]


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("privacy", ["record", "patient"])
def test_the_released_accuracy_is_the_truth_within_its_noise(tmp_path: Path, privacy: str) -> None:
    summary, folder, text = run(tmp_path, f"privacy={privacy}")
    told = summary["released"]
    assert set(told) == {
        "accuracy",
        "standard_error",
        "rows",
        "noise_std",
        "sites",
        "failures",
    }
    assert (told["sites"], told["failures"]) == (5, {})
    rows = 8 if privacy == "patient" else 1
    assert told["noise_std"] == pytest.approx(5**0.5 * 10 * rows)
    assert abs(told["rows"] - 300) < 6 * 2**0.5 * told["noise_std"] + 60
    if privacy == "record":
        # A patient's counts have eight times the noise: too much for 300 rows, and it says so.
        truth = summary["final"]["accuracy"]
        assert abs(told["accuracy"] - truth) < 6 * told["standard_error"]
        assert told["standard_error"] < 0.1
        assert "as released under DP" in text
    for name, site in summary["privacy"]["sites"].items():
        spends = entries(folder, name)
        assert [(e.round, float(e.rate), e.steps) for e in spends][-1] == (0, 1.0, 1)
        assert site["steps"] == 2
        bound = claim([e.spend() for e in spends], summary["privacy"]["delta"])
        assert site["epsilon"] == pytest.approx(bound.epsilon, rel=1e-9)
        assert 7.9 < site["epsilon"] <= 8


@pytest.mark.slow
@pytest.mark.long
def test_few_rows_are_lost_in_the_noise_and_that_is_said(tmp_path: Path) -> None:
    summary, _, text = run(tmp_path, "privacy=record", "privacy.evaluation_noise=1000")
    assert summary["released"]["accuracy"] is None
    assert "lost in the noise" in text


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    "choice",
    [
        ["privacy=none"],
        ["privacy=record", "privacy.evaluation=suppressed"],
        ["privacy=record", "data.test_rows=50"],
    ],
    ids=["plain", "suppressed", "public"],
)
def test_otherwise_no_site_is_asked(tmp_path: Path, choice: list[str]) -> None:
    summary, folder, text = run(tmp_path, FEW, *choice)
    assert summary["released"] is None
    assert "released" not in text
    for name in summary["privacy"]["sites"]:
        assert all(entry.round for entry in entries(folder, name))


@pytest.mark.slow
@pytest.mark.long
def test_a_finished_run_that_is_resumed_asks_nobody_again(tmp_path: Path) -> None:
    summary, folder, _ = run(tmp_path, FEW, "privacy=record")
    before = [p.read_bytes() for p in sorted((folder / "ledger").glob("*"))]
    (folder / "summary.json").unlink()
    again, _, _ = run(tmp_path, "resume=true")
    assert again["released"] == summary["released"]
    assert again["job_sha256"] == summary["job_sha256"]
    assert [p.read_bytes() for p in sorted((folder / "ledger").glob("*"))] == before


@pytest.mark.long
def test_answers_lost_in_a_crash_are_not_given_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*_: Any) -> Any:
        raise OSError("power cut")

    monkeypatch.setattr(server.progress, "publish", power_cut)
    with pytest.raises(OSError, match="power cut"):
        run(tmp_path, FEW, "privacy=record")
    monkeypatch.undo()
    summary, folder, _ = run(tmp_path, "resume=true")
    told = summary["released"]
    assert (told["accuracy"], told["sites"]) == (None, 0)
    assert set(told["failures"]) == set(summary["privacy"]["sites"])
    assert all("one evaluation" in reason for reason in told["failures"].values())
    for name, site in summary["privacy"]["sites"].items():
        assert [e.round for e in entries(folder, name)] == [1, 2, 0]
        assert site["epsilon"] <= 8


@pytest.mark.long
def test_one_sites_spent_budget_ends_the_run_and_all_release_its_last_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Account.spend_round

    def spend_round(self: Account, round_: int, *rest: Any) -> Any:
        if round_ == 2 and self._site.name == "site-1":
            raise BudgetError("spent")
        return real(self, round_, *rest)

    monkeypatch.setattr(Account, "spend_round", spend_round)
    summary, folder, _ = run(
        tmp_path, FEW, "privacy=record", "train.rounds=4", "federation.quorum=1"
    )
    assert summary["rounds"] == 1
    assert "budgets are spent" in summary["stopped"]
    assert (summary["released"]["sites"], summary["released"]["failures"]) == (5, {})
    for name, site in summary["privacy"]["sites"].items():
        assert [e.round for e in entries(folder, name)][-1] == 0
        assert site["epsilon"] <= 8


@pytest.mark.slow
@pytest.mark.long
def test_a_sweep_shows_what_was_released_where_something_was(tmp_path: Path) -> None:
    summary = Summary.from_mapping(run(tmp_path, "privacy=record")[0])
    plain = replace(summary, released=None)
    some: list[tuple[str, Summary | str]] = [("a", summary), ("b", plain), ("c", "failed: X")]
    for results, columns in ((some, 7), (some[1:], 6)):
        table = sweep_table(results)
        assert len(table.columns) == columns
        assert table.row_count == len(results)
