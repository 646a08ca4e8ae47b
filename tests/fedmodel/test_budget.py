"""The verb ``budget``, from the command line to what it says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel import cli, config
from fedmodel.accounting.planning import make_plan
from fedmodel.accounting.spends import Spend
from fedmodel.budget.statement import statement
from fedmodel.job import Privacy, Train
from fedmodel.ledger import Ledger
from fedmodel.ledger.caps import Caps, total
from fedmodel.ledger.entries import Part
from fedmodel.ledger.mechanism import DPSGD
from fedmodel.ledger.request import Request
from fedmodel.ledger.site_state import SiteState
from tests.conftest import new_run
from tests.jobs import make_job

JOB = make_job(
    train=Train(rounds=2, steps=5),
    privacy=Privacy(mechanism="dpsgd", epsilon=2.0, delta=1e-5, rate=0.1),
)
TERMS = Request.of(make_plan(JOB.privacy, batch_size=64, rounds=2, steps=5, evaluate=False))
COST = total(TERMS.charges(), "record").epsilon
TWO = total(TERMS.charges() * 2, "record").epsilon


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def spend_some(ledger: Ledger, run: str, *, end: bool) -> None:
    ledger.reserve(TERMS, run=run, job=JOB.sha256, code="test")
    (part,) = TERMS.parts
    step = Part.of(Spend(0.1, float(part.noise_multiplier), 5), DPSGD)
    ledger.spend(step, run=run, job=JOB.sha256, round=1, clip=1.0)
    if end:
        ledger.give_back(run, JOB.sha256)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for name in ("north", "South Side"):
        site = SiteState(tmp_path / "state" / name.lower().replace(" ", "-"), name)
        ledger = site.ledger()
        site.note_rows(ledger, ["a", "b"], ["x", "y"])
        spend_some(ledger, "first", end=True)
        spend_some(ledger, "second", end=name == "north")
    return tmp_path / "state"


def told(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> Any:
    assert cli.main(["budget", *args, "format=json"]) == code
    return json.loads(capsys.readouterr().out)


def test_what_is_spent_reserved_and_left(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, f"state={state}", "budget.epsilon=9")
    assert out["schema"] == "fedmodel.budget/1"
    assert [x["site"] for x in out["ledgers"]] == ["north", "South Side"]
    north, south = out["ledgers"]
    assert (north["rows"], north["added"], north["removed"]) == (2, 2, 0)
    assert [(r["run"], r["state"], r["steps"]) for r in north["runs"]] == [
        ("first", "released", 5),
        ("second", "released", 5),
    ]
    assert [r["state"] for r in south["runs"]] == ["released", "open"]
    half = Spend(0.1, float(TERMS.parts[0].noise_multiplier), 5)
    charge = TERMS.charges()[0]
    halves = [type(charge)(half, "record", "add-remove", 1e-5)]
    (sum_north,), (sum_south,) = north["totals"], south["totals"]
    assert sum_north["spent"] == sum_north["reserved"] == total(halves * 2, "record").epsilon
    assert sum_south["spent"] == sum_north["spent"]
    assert sum_south["reserved"] == total([*halves, *TERMS.charges()], "record").epsilon
    assert sum_south["left"] == 9 - sum_south["reserved"]
    assert (sum_south["unit"], sum_south["adjacency"], sum_south["delta"]) == (
        "record",
        "add-remove",
        1e-5,
    )


def test_what_is_spent_is_told_at_the_delta_of_what_is_reserved_with_it(tmp_path: Path) -> None:
    ledger = SiteState(tmp_path / "st" / "north", "north").ledger()
    spend_some(ledger, "first", end=True)
    stricter = Request.of(
        make_plan(
            replace(JOB.privacy, delta=1e-8), batch_size=64, rounds=2, steps=5, evaluate=False
        )
    )
    ledger.reserve(stricter, run="second", job=JOB.sha256, code="test")
    (whole,) = statement(ledger.book(), Caps()).totals
    spent = [r.charge(s) for r in ledger.book().of("first") for s in r.done()]
    assert whole.delta == 1e-8
    assert whole.spent == total(spent, "record", 1e-8).epsilon > total(spent, "record").epsilon
    assert whole.spent < whole.reserved


def test_an_evaluation_is_told_apart_from_the_steps_that_were_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terms = Request.of(make_plan(JOB.privacy, batch_size=64, rounds=2, steps=5, evaluate=True))
    ledger = SiteState(tmp_path / "state" / "north", "north").ledger()
    ledger.reserve(terms, run="first", job=JOB.sha256, code="test")
    for part, round_, steps in zip(terms.parts, (1, 0), (5, 1), strict=True):
        ledger.spend(
            replace(part, steps=steps), run="first", job=JOB.sha256, round=round_, clip=1.0
        )
    (run,) = told(capsys, f"state={tmp_path / 'state'}")["ledgers"][0]["runs"]
    assert (run["steps"], run["evaluations"]) == (6, 1)
    assert cli.main(["budget", f"state={tmp_path / 'state'}"]) == 0
    words = capsys.readouterr().out.split()
    assert "6" not in words
    assert words[words.index("5") :].index("+") < words[words.index("5") :].index("evaluate")


def test_the_table(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["budget", f"state={state}", "site=north", "budget.epsilon=9"]) == 0
    out = capsys.readouterr().out
    for word in ("site north, dataset main", "first", "released", "all runs", "2 rows (+2 −0"):
        assert word in out
    assert "South Side" not in out


def test_one_sites_own_folder(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, f"state={state / 'south-side'}")
    assert [x["site"] for x in out["ledgers"]] == ["South Side"]


@pytest.mark.long
def test_what_a_job_would_cost(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(JOB.json)
    out = told(capsys, f"state={state}", "--what-if", f"job={path}")
    assert [x["refusal"] for x in out["what_if"]] == [None, None]
    north, south = out["what_if"]
    assert north["before"] == out["ledgers"][0]["totals"][0]["reserved"]
    assert south["after"] > north["after"] > COST
    # Between what the two sites would have spent: one refuses, and the exit code says so.
    cap = (north["after"] + south["after"]) / 2
    out = told(capsys, f"state={state}", f"what_if={path}", f"budget.epsilon={cap}", code=1)
    assert [x["refusal"] is None for x in out["what_if"]] == [True, False]
    assert "budget.epsilon" in out["what_if"][1]["refusal"]
    args = ["budget", f"state={state}", "--what-if", f"job={path}", f"budget.epsilon={cap}"]
    assert cli.main(args) == 1
    shown = capsys.readouterr().out
    assert "what the job would cost" in shown
    table, below = shown.split("what the job would cost")[1].rsplit("┘", 1)
    assert table.count("refused") == table.count("fits") == 1
    assert "budget.epsilon" not in table
    refusal = out["what_if"][1]["refusal"]
    assert " ".join(below.split()) == f"site South Side, dataset main: {refusal}"


def test_a_job_for_records_where_patients_are_protected(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(JOB.json)
    out = told(capsys, f"state={state}", f"what_if={path}", "budget.unit=patient", code=1)
    assert all("privacy=patient" in x["refusal"] for x in out["what_if"])
    assert all(x["after"] is None for x in out["what_if"])


def test_a_job_without_privacy_costs_nothing(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(make_job().json)
    out = told(capsys, f"state={state}", f"what_if={path}")
    assert all(x["before"] == x["after"] for x in out["what_if"])


def test_a_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = new_run(
        tmp_path / "runs" / "demo",
        job=config.to_mapping(JOB),
        config={"budget": {"epsilon": 5.0}},
    )
    site = SiteState(folder.site_state("north"), "north")
    ledger = site.ledger(path=folder.ledger("north"))
    spend_some(ledger, "demo", end=True)
    out = told(capsys, "run=demo", "--what-if", "run=demo")
    (found,) = out["ledgers"]
    assert (found["site"], found["totals"][0]["cap"]) == ("north", 5.0)
    assert out["what_if"][0]["refusal"] is None
    assert told(capsys, "run=demo", "budget.epsilon=7")["ledgers"][0]["totals"][0]["cap"] == 7
    # The ledger of a run is held against its heads, as a site's own is.
    lines = folder.ledger("north").read_bytes().splitlines(keepends=True)
    folder.ledger("north").write_bytes(b"".join(lines[:-2]))
    assert cli.main(["budget", "run=demo"]) == 1
    assert "an old copy" in capsys.readouterr().err


@pytest.mark.long
def test_the_operator_gives_up_a_run(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["budget", f"state={state}", "release=secnd"]) == 2
    assert "(did you mean 'second'?)" in capsys.readouterr().err
    ledger = SiteState(state / "south-side", "South Side").ledger()
    ledger.reserve(TERMS, run="long-0123abcd", job=JOB.sha256, code="test")
    told(capsys, f"state={state}", "release=long")
    assert [r.entry.run for r in ledger.book().open_ones()] == ["second"]
    out = told(capsys, f"state={state}", "release=second")
    assert [r["state"] for r in out["ledgers"][1]["runs"]] == ["released"] * 3
    assert out["ledgers"][1]["totals"][0]["spent"] == out["ledgers"][0]["totals"][0]["spent"]


@pytest.mark.sample(5)
@pytest.mark.long
@pytest.mark.parametrize(
    ("args", "says", "code"),
    [
        ([], "budget needs state=", 2),
        (["state=x", "run=y"], "one of them", 2),
        (["state=nowhere"], "there is no folder nowhere", 2),
        (["state=."], "has no ledger", 1),
        (["run=nowhere"], "there is no run", 2),
        (["state=state", "site=nobody"], "there are: site=South Side dataset=main", 2),
        (["state=state", "format=xml"], "expected one of: table, json", 2),
        (["run=x", "release=y"], "needs state=", 2),
        (["state=state", "what_if=nothing"], "can't be read", 2),
        (["state=state", "--what-if"], "--what-if needs job=", 2),
        (["state=state", "--what-if", "jbo=x"], "--what-if needs job=", 2),
        (["state=state", "budget.epsilon=-1"], "budget.epsilon must be > 0", 2),
        (["state=state", "budget.epsilom=1"], "did you mean", 2),
        (["-m", "state=a,b"], "leave -m out", 2),
    ],
)
def test_wrong_usage(
    state: Path, args: list[str], says: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["budget", *args]) == code
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_a_job_of_an_earlier_version_has_no_cost(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(JOB.json.replace(b"fedmodel.job/2", b"fedmodel.job/1"))
    assert cli.main(["budget", f"state={state}", f"what_if={path}"]) == 2
    assert "fedmodel.job/1" in capsys.readouterr().err
