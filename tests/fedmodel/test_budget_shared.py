"""The verb ``budget`` where sites are the unit, or share the noise."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedmodel import cli
from fedmodel.accounting.claims import claim
from fedmodel.accounting.planning import make_plan
from fedmodel.accounting.spends import Spend
from fedmodel.budget.statement import statement, what_if
from fedmodel.job import Privacy, Train
from fedmodel.ledger import Ledger
from fedmodel.ledger.caps import Caps
from fedmodel.ledger.entries import Part
from fedmodel.ledger.request import Request
from fedmodel.ledger.site_state import SiteState
from tests.jobs import make_job, summed

SITES = Privacy(mechanism="site", unit="site", epsilon=6.0, delta=1e-3, evaluation="suppressed")
PATIENTS = Privacy(mechanism="distributed", unit="patient", epsilon=2.0, delta=1e-5, rate=0.1)
SECAGG = summed(5, colluders=1, survivors=4)
JOB = make_job(train=Train(rounds=4, steps=5), privacy=SITES, secagg=SECAGG)


def terms(privacy: Privacy) -> Request:
    return Request.of(make_plan(privacy, batch_size=64, rounds=4, steps=1, evaluate=False))


def spend(ledger: Ledger, of: Request, run: str) -> Spend:
    ledger.reserve(of, run=run, job=JOB.sha256, code="test")
    part = of.parts[0].spend()
    step = Spend(part.rate, part.noise_multiplier, 2)
    ledger.spend(Part.of(step, of.parts[0].mechanism), run=run, job=JOB.sha256, round=1, clip=1.0)
    ledger.give_back(run, JOB.sha256)
    return step


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    site = SiteState(tmp_path / "state" / "north", "north")
    ledger = site.ledger()
    site.note_rows(ledger, ["a", "b"], ["x", "y"])
    return ledger


@pytest.mark.long
def test_totals_for_all_that_they_can_be_told_for(ledger: Ledger) -> None:
    step = spend(ledger, terms(SITES), "first")
    shown = statement(ledger.book(), Caps(epsilon=20.0, unit="patient"))
    record, patient, site = shown.totals
    assert [t.unit for t in shown.totals] == ["record", "patient", "site"]
    assert site.spent == claim([step], 1e-3).epsilon
    assert record.spent == patient.spent == claim([step], 1e-3, "replace").epsilon
    assert [t.adjacency for t in shown.totals] == ["replace", "replace", "add-remove"]
    assert [t.cap for t in shown.totals] == [None, 20.0, None]
    assert (shown.runs[0].sum.unit, shown.runs[0].sum.spent) == ("site", site.spent)
    other = spend(ledger, terms(PATIENTS), "second")
    shown = statement(ledger.book(), Caps())
    assert [t.unit for t in shown.totals] == ["record", "patient"]
    assert shown.totals[1].spent == claim([step, other], 1e-5, "replace").epsilon
    spend(ledger, terms(Privacy(mechanism="dpsgd", epsilon=2.0, rate=0.1)), "third")
    assert [t.unit for t in statement(ledger.book(), Caps()).totals] == ["record"]


def test_what_a_job_would_cost(ledger: Ledger) -> None:
    wanted = terms(SITES)
    found = what_if(ledger.book(), wanted, Caps(epsilon=50.0))
    whole = claim([p.spend() for p in wanted.parts], 1e-3, "replace").epsilon
    assert (found.before, found.after, found.refusal) == (0.0, whole, None)
    assert what_if(ledger.book(), wanted, Caps(epsilon=6.0)).refusal is not None


@pytest.mark.long
@pytest.mark.parametrize("privacy", [SITES, PATIENTS])
def test_the_command(
    ledger: Ledger, privacy: Privacy, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spend(ledger, terms(SITES), "first")
    train = Train(rounds=4, steps=5 if privacy is SITES else 1)
    path = tmp_path / "job.json"
    path.write_bytes(make_job(train=train, privacy=privacy, secagg=SECAGG).json)
    args = ["budget", f"state={tmp_path / 'state'}", "--what-if", f"job={path}"]
    assert cli.main([*args, "format=json"]) == 0
    out: Any = json.loads(capsys.readouterr().out)
    assert [t["unit"] for t in out["ledgers"][0]["totals"]] == ["record", "patient", "site"]
    assert out["what_if"][0]["after"] > out["what_if"][0]["before"] > 0
    assert cli.main(args) == 0
    shown = capsys.readouterr().out
    for line in ("site, add-remove", "record, replace", "patient, replace", "fits"):
        assert line in shown
