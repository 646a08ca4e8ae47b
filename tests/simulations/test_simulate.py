"""The verb ``simulate``, whole: through the real apps, on small data."""

import io
import json
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clients.report import SiteReport, SiteWork
from fedmodel import cli
from fedmodel.accounting.claims import epsilon
from fedmodel.errors import DataError, QuorumError, RunFolderError
from fedmodel.ledger import Ledger
from fedmodel.report.page import report_page
from fedmodel.runs import RunFolder, Summary
from simulations.outcome import _site_summary
from simulations.run import simulate
from tests.jobs import make_job

pytestmark = pytest.mark.long

FAST = ["debug=fast", "train=head"]


def run(tmp_path: Path, *overrides: str, name: str = "run") -> tuple[dict[str, Any], Path, str]:
    folder = tmp_path / name
    console = Console(file=io.StringIO(), width=100)
    mapping = cli.compose("simulate", [*FAST, *overrides, f"run='{folder}'"])
    summary = simulate(mapping, console, given=[]).to_mapping()
    return summary, folder, console.file.getvalue()  # type: ignore[attr-defined]


Ran = tuple[dict[str, Any], Path, str]


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A private run that nobody changes."""
    choices = ("privacy=record", "privacy.epsilon=2", "budget.epsilon=100")
    return run(tmp_path_factory.mktemp("private"), *choices)


def test_the_run_folder_keeps_its_contract(private: Ran) -> None:
    summary, folder, text = private
    assert json.loads((folder / "summary.json").read_text()) == summary
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["job_sha256"] == summary["job_sha256"]
    assert set(summary["final"]) == {"accuracy", "macro_f1", "loss", "majority"}
    assert set(summary["time"]) == {"total_s", "train_s", "overhead_s"}
    assert summary["traffic"]["bytes_up"] > 0
    rows = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["round"] for r in rows] == [1, 2]
    assert (folder / "checkpoints" / "round-0002" / "model.safetensors").exists()
    assert (folder / "model" / "trained.safetensors").exists()
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    for name, site in summary["privacy"]["sites"].items():
        spends = Ledger(folder / "ledger" / f"{name}.jsonl").spends()
        assert sum(s.steps for s in spends) == site["steps"] == 2
        assert 0 < site["epsilon"] <= 2
        assert name in text
    assert summary["privacy"]["epsilon"] == max(
        s["epsilon"] for s in summary["privacy"]["sites"].values()
    )


def test_the_claimed_epsilon_is_the_ledgers(private: Ran) -> None:
    summary, folder, text = private
    assert " ".join(text.split()).count("budget.epsilon=100 holds within this run only") == 1
    for name, site in summary["privacy"]["sites"].items():
        spends = Ledger(folder / "ledger" / f"{name}.jsonl").spends()
        assert site["epsilon"] == pytest.approx(epsilon(spends, 1e-4), rel=1e-9)
        assert site["epsilon"] == pytest.approx(2, rel=0.01)


def test_no_text_of_a_row_reaches_the_run_folder(private: Ran) -> None:
    _, folder, text = private
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"MRN" not in path.read_bytes(), path
    assert "MRN" not in text


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    models = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path, "privacy=none", f"seed={seed}", name=name)
        models.append((tmp_path / name / "model" / "trained.safetensors").read_bytes())
    assert models[0] == models[1] != models[2]


def test_private_runs_never_repeat_their_noise(tmp_path: Path, private: Ran) -> None:
    _, folder, _ = run(tmp_path, "privacy=record", "privacy.epsilon=2", "budget.epsilon=100")
    one, two = (path / "model" / "trained.safetensors" for path in (private[1], folder))
    assert one.read_bytes() != two.read_bytes()


def write_csv(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    lines = ["hospital,note,dx", *(",".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def csv_args(path: Path) -> list[str]:
    return [
        "data=csv",
        f"data.train='{path}'",
        "data.text=note",
        "data.label=dx",
        "data.site=hospital",
        "train.batch_size=4",
    ]


def test_a_csv_without_a_test_file_holds_out_some_of_every_site(tmp_path: Path) -> None:
    rows = [(f"h{i % 3}", f"note {i} " + "pain " * (i % 2), f"d{i % 2}") for i in range(90)]
    summary, _, _ = run(tmp_path, *csv_args(write_csv(tmp_path / "x.csv", rows)), "privacy=none")
    assert summary["test"] == "held out from the sites"
    assert set(summary["privacy"]["sites"]) == {"h0", "h1", "h2"}


def test_a_site_that_is_too_small_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    rows = [(f"h{i % 2}", f"note {i}", f"d{i // 2 % 2}") for i in range(60)]
    rows += [("tiny", f"note {i}", f"d{i}") for i in range(2)]
    args = [*csv_args(write_csv(tmp_path / "x.csv", rows)), "privacy=none"]
    summary, _, text = run(tmp_path, *args)
    assert "site 'tiny': expected at least 16" in summary["privacy"]["sites"]["tiny"]["refused"]
    assert summary["privacy"]["sites"]["tiny"]["steps"] == 0
    assert summary["rounds"] == 2
    assert "refused" in text
    with pytest.raises(QuorumError, match=r"2 of 3 sites joined, 3 are needed"):
        run(tmp_path, *args, "federation.quorum=1", name="strict")


def test_a_site_name_cant_leave_the_run_folder_and_isnt_shown(tmp_path: Path) -> None:
    rows = [(f"../h{i % 2}", f"note {i}", f"d{i // 2 % 2}") for i in range(40)]
    with pytest.raises(DataError, match="can't name a file") as caught:
        run(tmp_path, *csv_args(write_csv(tmp_path / "x.csv", rows)))
    assert "../h" not in str(caught.value)


def test_sites_may_have_names_as_hospitals_have_them(tmp_path: Path) -> None:
    names = ("Zürich", "St. Mary's")
    rows = [(names[i % 2], f"note {i}", f"d{i // 2 % 2}") for i in range(40)]
    summary, _, _ = run(tmp_path, *csv_args(write_csv(tmp_path / "x.csv", rows)), "privacy=none")
    assert set(summary["privacy"]["sites"]) == set(names)


@pytest.mark.slow
def test_only_the_rounds_a_site_took_part_in_count(tmp_path: Path) -> None:
    args = ["privacy=none", "federation.fraction=0.2"]
    summary, _, _ = run(tmp_path, *args)
    assert sum(s["steps"] for s in summary["privacy"]["sites"].values()) == 2


@pytest.mark.slow
def test_normalising_or_not_isnt_lost_in_the_cache(tmp_path: Path) -> None:
    losses = [
        run(tmp_path, "privacy=none", f"model.normalize={value}", name=value)[0]["final"]["loss"]
        for value in ("true", "false")
    ]
    assert losses[0] != losses[1]


def test_the_report_page_has_no_row_counts(private: Ran) -> None:
    summary, folder, text = private
    assert "rows" in text
    page = (folder / "report.html").read_text()
    assert not re.search(r"rows(?!\s+steady)", page)  # which a caveat may say, by chance
    manifest = RunFolder.open(folder).manifest
    assert page == report_page(Summary.from_mapping(summary), folder.name, manifest)


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_an_impossible_run_folder_is_one_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError):
        run(tmp_path, "privacy=none", name=name)


@pytest.mark.slow
def test_a_kill_during_the_first_write_leaves_no_dead_end(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".manifest.json.1.tmp").write_text("{")
    summary, _, _ = run(tmp_path, "privacy=none")
    assert summary["rounds"] == 2


def unfinished(tmp_path: Path, *overrides: str) -> Path:
    _, folder, _ = run(tmp_path, *overrides)
    (folder / "summary.json").unlink()
    return folder


def test_a_resume_with_other_rows_is_refused(tmp_path: Path) -> None:
    rows = [(f"h{i % 2}", f"note {i}", f"d{i // 2 % 2}") for i in range(60)]
    path = write_csv(tmp_path / "x.csv", rows)
    unfinished(tmp_path, *csv_args(path), "privacy=none")
    write_csv(path, [("h0", "another note", "d0"), *rows[1:]])
    with pytest.raises(RunFolderError, match="the rows changed"):
        run(tmp_path, "resume=true")


def test_a_run_that_another_process_runs_isnt_touched(tmp_path: Path, private: Ran) -> None:
    folder = Path(shutil.copytree(private[1], tmp_path / "run"))
    (folder / "summary.json").unlink()
    with RunFolder(folder).locked(), pytest.raises(RunFolderError, match="another process"):
        run(tmp_path, "resume=true")


@pytest.mark.slow
def test_a_sweep_cant_be_resumed_as_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["simulate", "-m", *FAST, "privacy=none,record", "run=s"]) == 0
    again = ["simulate", "-m", *FAST, "privacy=site,record", "run=s", "resume=true"]
    assert cli.main(again) == 2
    assert "privacy would change it" in " ".join(capsys.readouterr().out.split())
    same = ["simulate", "-m", *FAST, "privacy=none,record", "run=s", "resume=true"]
    assert cli.main(same) == 0


def test_a_finished_run_isnt_overwritten_or_run_again(tmp_path: Path, private: Ran) -> None:
    shutil.copytree(private[1], tmp_path / "run")
    with pytest.raises(RunFolderError, match="finished; choose another run=NAME"):
        run(tmp_path, "privacy=none")
    page = tmp_path / "run" / "report.html"
    page.unlink()  # as by a kill just before it is written
    summary, _, text = run(tmp_path, "resume=true")
    assert "finished already" in text
    assert page.read_text() == (private[1] / "report.html").read_text()
    page.write_text("with what people wrote beside it")
    run(tmp_path, "resume=true")
    assert page.read_text() == "with what people wrote beside it"
    assert summary["rounds"] == 2


def test_a_sweep_runs_every_job_and_shows_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    args = ["simulate", "-m", *FAST, "privacy=none,record", "run=s"]
    assert cli.main(args) == 0
    out = capsys.readouterr().out
    assert re.search(r"privacy=none.*%", out)
    assert re.search(r"privacy=record.*%", out)
    names = ["s-000", "s-001", "s-sweep.json"]
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == names


@pytest.mark.slow
def test_a_sweep_over_seeds_ends_in_a_table_and_goes_on_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    asked = ["simulate", "-m", *FAST, "privacy=none", "train.steps=1,2", "seed=0,1,2", "run=s"]
    assert cli.main(asked) == 0
    assert "over seeds" in capsys.readouterr().out
    told = json.loads((tmp_path / "runs/s-sweep.json").read_text())
    assert told["schema"] == "fedmodel.sweep/1"
    assert [row["seed"] for row in told["jobs"]] == [0, 1, 2] * 2
    for steps, mean in zip((1, 2), told["over_seeds"], strict=True):
        assert (mean["job"], mean["runs"]) == (f"train.steps={steps}", 3)
        mine = [j["final"]["loss"] for j in told["jobs"] if f"train.steps={steps}" in j["job"]]
        assert mean["mean"]["loss"] == pytest.approx(statistics.mean(mine))
        assert mean["sd"]["loss"] == pytest.approx(statistics.stdev(mine))
    # One is gone, one was never finished: only they are run.
    shutil.rmtree(tmp_path / "runs/s-001")
    (tmp_path / "runs/s-004/summary.json").unlink()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/summary.json")}
    assert cli.main(asked) == 0
    assert capsys.readouterr().out.count("is finished already") == 4
    assert all(p.stat().st_mtime_ns == time for p, time in before.items())
    assert json.loads((tmp_path / "runs/s-sweep.json").read_text()) == told


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["fedavg", "fedavgm", "fedadam"])
def test_every_server_optimizer_runs(tmp_path: Path, optimizer: str) -> None:
    summary, _, _ = run(tmp_path, f"aggregation={optimizer}", "privacy=none")
    assert summary["final"]["loss"] > 0


@pytest.mark.parametrize(
    "method", ["lora", *(pytest.param(m, marks=pytest.mark.slow) for m in ("ffa", "full"))]
)
def test_every_method_trains_privately(tmp_path: Path, method: str) -> None:
    summary, _, _ = run(tmp_path, f"train={method}", "privacy=record", "data.rows=120")
    assert summary["privacy"]["epsilon"] <= 8


def test_what_a_site_refused_after_it_had_joined_is_not_why_it_did_not_join() -> None:
    report = SiteReport(site="a", work=SiteWork(refusal="its budget is spent"))
    for refused, told in ((True, "its budget is spent"), (False, None)):
        assert _site_summary(make_job(), report, 2, refused=refused).refused == told
