"""A served run that waits for what the sites' people say."""

from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.runs import RunFolder
from tests.deployed import Deployed
from tests.server.test_serve import serve

pytestmark = pytest.mark.long


def test_a_run_that_waits_for_approvals_says_so_and_begins_once_they_are_there(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3: the same command is given again until people have approved, and no new offer."""
    for name in deployed.names:
        deployed.fill(name, "approval: auto", "approval: each")
    asked = ["privacy=none", f"data.test={deployed.root / 'test.csv'}", "run=served", "resume=true"]
    assert serve(deployed, *asked) == 3
    said = capsys.readouterr().err
    assert "3 site(s) wait for their people's approval" in said
    assert "the same command, run=served resume=true" in said
    run = RunFolder.open(Path("runs/served")).run
    for name in deployed.names[:2]:
        assert cli.main(["site", "approve", run, f"site={deployed.file(name)}"]) == 0
    assert serve(deployed, *asked, "federation.exclude=[site-3]") == 0
    assert RunFolder.open(Path("runs/served")).run == run


def test_a_refusal_by_peoples_word_is_no_reason_to_try_again(deployed: Deployed) -> None:
    for name in deployed.names:
        deployed.fill(name, "approval: auto", "approval: each")
    asked = ["privacy=none", f"data.test={deployed.root / 'test.csv'}", "run=served", "resume=true"]
    assert serve(deployed, *asked, "federation.quorum=1") == 3
    run = RunFolder.open(Path("runs/served")).run
    assert cli.main(["site", "refuse", run, f"site={deployed.file('site-1')}"]) == 0
    assert serve(deployed, *asked, "federation.quorum=1") == 1


def test_a_run_that_all_sites_refuse_stays_with_who_refused_and_goes_on_once_that_is_mended(
    deployed: Deployed,
) -> None:
    """As docs/run-folder.md says; a simulation's folder goes."""
    for name in deployed.names:
        deployed.fill(name, "private: false", "private: true")
    asked = ["privacy=none", "declared.rows=40", "train.rounds=1", "run=served", "resume=true"]
    assert serve(deployed, *asked) == 1
    folder = RunFolder.open(Path("runs/served"))
    told = folder.own_ledger.read_text()
    assert told.count('"kind":"refused"') == 3
    assert folder.summary() is None
    for name in deployed.names:
        deployed.fill(name, "private: true", "private: false")
    assert serve(deployed, *asked) == 0
    assert RunFolder.open(Path("runs/served")).run == folder.run
