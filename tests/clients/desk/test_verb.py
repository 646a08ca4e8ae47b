"""The verb ``site``, as a hospital's people use it, and the page of the documents that shows it."""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clients.desk import Asked, verb
from clients.desk.approvals import desk_of
from clients.desk.page import Arrays, make_page, page_text
from fedmodel.accounting.planning import plan_of
from fedmodel.budget.statement import WhatIf
from fedmodel.cli import main
from fedmodel.errors import RefusedError
from fedmodel.identity.security_log import SecurityLog
from fedmodel.job import Model, Privacy, Train
from fedmodel.ledger import Ledger, Request
from fedmodel.ledger.site_state import SiteState
from fedmodel.runs import RunFolder
from tests.jobs import make_job

JOB = make_job(privacy=Privacy(mechanism="dpsgd", rate=0.1), train=Train(method="head"))
GOVERNANCE = Path(__file__).resolve().parents[3] / "docs/governance.md"


@pytest.fixture
def state(tmp_path: Path) -> SiteState:
    """Return the state of a site to which a run was offered."""
    made = SiteState(tmp_path / "state" / "north", "north")
    offer = Asked(run="demo-01234567", since="", purpose="Triage", job=JOB.json.decode())
    with pytest.raises(RefusedError):
        desk_of(made).admit(offer)
    return made


def told(capsys: pytest.CaptureFixture[str], state: SiteState, *words: str) -> Any:
    capsys.readouterr()
    assert main(["site", *words, f"state={state.folder}", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.long
def test_what_is_offered_is_listed_shown_and_decided(
    state: SiteState, capsys: pytest.CaptureFixture[str]
) -> None:
    (job,) = told(capsys, state, "jobs")["jobs"]
    assert (job["run"], job["status"], job["expires"]) == ("demo-01234567", "waiting", None)
    shown = told(capsys, state, "show", "demo")
    assert shown["page"]["purpose"] == "Triage"
    assert shown["page"]["job"] == JOB.sha256
    approved = told(capsys, state, "approve", "demo", "expires=2d", "why=Vote of Monday, (3:1)")
    assert approved["status"] == "approved"
    desk_of(state).require("demo-01234567", JOB.sha256)
    (signed,) = told(capsys, state, "show", JOB.sha256[:8])["decisions"]
    assert signed["decision"]["why"] == "Vote of Monday, (3:1)"
    assert signed["key"] == state.key.public.hex()
    kept = next((state.offers / "demo-01234567").rglob("page-*.json"))
    assert json.loads(kept.read_text()) == approved["page"] == shown["page"]
    assert told(capsys, state, "revoke", "demo")["status"] == "revoked"
    rows = SecurityLog(state.folder / "security.jsonl").rows()
    assert [row.event for row in rows] == ["run-approved", "run-revoked"]
    assert rows[0].about["page"] == signed["decision"]["page"]


@pytest.mark.long
@pytest.mark.usefixtures("cheap_scrypt")
def test_a_sealed_key_needs_its_passphrase(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "north"
    sealed = SiteState(folder, "north", passphrase=b"correct horse battery")
    offer = Asked(run="demo-01234567", since="", job=JOB.json.decode())
    with pytest.raises(RefusedError):
        desk_of(sealed).admit(offer)
    words = ["site", "refuse", "demo", f"state={folder}"]
    assert main(words) != 0
    assert "passphrase" in capsys.readouterr().err
    for text, code in ((b"wrong horse battery\n", False), (b"correct horse battery\n", True)):
        read, write = os.pipe()
        os.write(write, text)
        os.close(write)
        assert (main([*words, f"passphrase=fd:{read}"]) == 0) == code
    assert desk_of(sealed).status(offer.run, offer.job_sha256) == "refused"


def test_what_people_read(state: SiteState, capsys: pytest.CaptureFixture[str]) -> None:
    where = f"state={state.folder.parent}"
    assert main(["site", "jobs", where]) == 0
    assert "demo-01234567" in capsys.readouterr().out
    assert main(["site", "refuse", "demo", where, "site=north", "why=no vote"]) == 0
    assert capsys.readouterr().out == "run demo-01234567 is refused here\n"
    assert main(["site", "show", "demo", where]) == 0
    out = capsys.readouterr().out
    assert re.search(r"status: refused\n  2\S+ refused by key [0-9a-f]{16}…: no vote\n$", out)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["jobs"], "site needs state="),
        (["show", "state=."], "site show needs a job: fedmodel site show RUN"),
        (["show", "demo", "again", "state=."], "'again' is one word too many"),
        (
            ["permit", "demo", "state=."],
            "one of: jobs, show, approve, refuse, revoke, key",
        ),
        (["approve", "demo", "expires=soon", "state=STATE"], "expires='soon' isn't a time"),
        (["approve", "demos", "state=STATE"], "no offers are called 'demos'"),
        (["jobs", "state=STATE", "site=south"], "no sites called 'south'; set site= to one of"),
    ],
)
def test_wrong_use_is_one_line(
    words: list[str], says: str, state: SiteState, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(state.folder.parent)
    assert main(["site", *(word.replace("STATE", where) for word in words)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert not list((state.offers / "demo-01234567").rglob("decisions.json"))


@pytest.mark.long
def test_a_researcher_rehearses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ask = ["simulate", "debug=fast", "train=head", "federation.sites=3", "approval=each", "run=x"]
    assert main([*ask, "purpose=Rehearsal, of (all)"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "waits for the approval" in out
    run = RunFolder.open(tmp_path / "runs/x").run
    where = "state=runs/x/sites"
    assert f"fedmodel site approve {run} {where} site=NAME" in out
    for number in (1, 2, 3):
        assert main(["site", "approve", run, where, f"site=site-{number}"]) == 0
    assert "Rehearsal, of (all)" in capsys.readouterr().out
    assert main([*ask, "resume=true"]) == 0
    summary = RunFolder.open(tmp_path / "runs/x").summary()
    assert summary is not None
    assert [site.refused for site in summary.privacy.sites.values()] == [None] * 3
    assert main(["site", "jobs", where, "site=site-1", "--json"]) == 0
    assert '"status": "ended"' in capsys.readouterr().out


def test_the_page_in_the_documents_is_the_one_that_is_printed() -> None:
    """FEDMODEL_WRITE_DOCS=1 pytest tests/clients/desk/test_verb.py"""
    job = make_job(
        model=Model(source="minilm", labels=("discharge letter", "referral", "report")),
        privacy=Privacy(mechanism="dpsgd", unit="patient", rate=0.05, epsilon=3.0, clip=0.5),
        train=Train(method="head", rounds=20),
    )
    offer = Asked(
        run="triage-5d1c9a30",
        purpose="Sorting incoming letters (ethics vote 2026/114)",
        coordinator="ab" * 32,
        consortium="Northern hospitals",
        since=datetime(2026, 11, 30, 9, tzinfo=UTC).isoformat(),
        job=job.json.decode(),
    )
    cost = WhatIf(
        site="north",
        dataset="main",
        unit="patient",
        before=1.25,
        after=3.62,
        cap=6.0,
        refusal=None,
        alone=3.0,
        spent=1.25,
        delta=1e-5,
    )
    page = make_page(offer, job, Arrays(shapes={"classifier.weight": (3, 384)}), cost)
    page["code"] = "fedmodel 0.2.0, sources 0123…"
    block = f"<!-- page -->\n```\n{page_text(page)}\n```\n"
    text = GOVERNANCE.read_text(encoding="utf-8")
    if os.environ.get("FEDMODEL_WRITE_DOCS"):
        text = re.sub("<!-- page -->\n```\n.*?\n```\n", lambda _: block, text, flags=re.DOTALL)
        GOVERNANCE.write_text(text, encoding="utf-8")
    assert block in text


def test_a_no_needs_neither_the_model_nor_the_ledger_nor_a_job_of_this_version(
    state: SiteState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told(capsys, state, "approve", "demo")
    ledger = state.ledger_path("main")
    ledger.parent.mkdir(parents=True, exist_ok=True)
    ledger.write_bytes(b"no ledger\n")
    monkeypatch.setattr("fedmodel.training.learner.resident", None)
    monkeypatch.setattr(Asked, "read_job", None)
    said = told(capsys, state, "revoke", "demo")
    assert said["status"] == "revoked"
    assert said["page"]["run"] == "demo-01234567"
    assert said["page"]["job"] == JOB.sha256
    kept = [json.loads(path.read_text()) for path in state.offers.rglob("page-*.json")]
    assert said["page"] in kept
    assert told(capsys, state, "refuse", "demo")["status"] == "refused"


def test_a_wrong_word_of_an_approval_is_told_before_the_model_is_read(
    state: SiteState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading it takes many seconds, and all of them were in vain."""
    monkeypatch.setattr(verb, "_arrays", None)
    where = f"state={state.folder}"
    for words, says in (
        (["expires=soon"], "expires='soon' isn't a time"),
        (["as=nowhere.key"], "for a site whose policy names approvers"),
    ):
        assert main(["site", "approve", "demo", where, *words]) == 2
        assert says in capsys.readouterr().err


def test_the_page_names_the_cap_where_nothing_was_spent_yet(
    state: SiteState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "_arrays", lambda job: Arrays(shapes={}))
    for cap, refused in ((20, False), (2, True)):
        budget = told(capsys, state, "show", "demo", f"budget.epsilon={cap}")["page"]["budget"]
        assert (budget["cap"], budget["spent"], budget["before"]) == (cap, 0, 0)
        assert budget["job"] == budget["after"] > 2
        assert (budget["refusal"] is not None) == refused
    assert main(["site", "show", "demo", f"state={state.folder}", "budget.epsilon=20"]) == 0
    assert "the cap is 20" in " ".join(capsys.readouterr().out.split())


def test_caps_that_only_the_sites_file_would_tell_arent_told_as_none(
    state: SiteState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "_arrays", lambda job: Arrays(shapes={}))
    assert main(["site", "show", "demo", f"state={state.folder}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the site's caps aren't known here (site=site.yaml reads them)" in said
    assert "no cap is set" not in said


@pytest.mark.parametrize("do", ["revoke", "refuse", "approve", "show"])
def test_of_a_run_that_nobody_was_asked_for_it_is_said_how_it_is_stopped(
    do: str, state: SiteState, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy has taken it (approval: auto): there is no offer, and a reservation."""
    ledger = state.ledger("main")
    asked = Request.of(plan_of(JOB))
    ledger.reserve(asked, run="long-89abcdef", job=JOB.sha256, code="")
    words = ["site", do, "long", f"state={state.folder}"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "no offers" not in said
    stop = f"fedmodel budget state={state.folder} release=long-89abcdef"
    assert stop in said
    assert "approval: each" in said
    assert main(stop.split()[1:]) == 0  # as it says
    assert not Ledger(ledger.path).book().open_ones()
    capsys.readouterr()
    assert main(words) == 2
    assert "holds nothing here any more" in capsys.readouterr().err
    assert main([*words[:2], "other", words[3]]) == 2
    assert "no offers are called 'other'" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_who_waits_at_a_terminal_is_told_for_what(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    verb._arrays(JOB)
    said = capsys.readouterr()
    assert said.out == ""
    assert ("reading the model" in said.err) == terminal


def test_what_was_decided_on_another_run_may_be_broken(
    state: SiteState, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RefusedError):
        desk_of(state).admit(Asked(run="other-01234567", since="", job=JOB.json.decode()))
    for run in ("other", "demo"):
        told(capsys, state, "approve", run)
    (path,) = (state.offers / "other-01234567").rglob("decisions.json")
    path.write_bytes(b"{}")
    assert told(capsys, state, "revoke", "demo")["status"] == "revoked"
