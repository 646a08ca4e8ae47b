"""A served run: each site packs its own by its own file, the coordinator what it has, and all."""

import json
from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from tests.fedmodel.audit.played import play


@pytest.mark.slow
def test_a_served_run_is_put_together_from_what_each_hands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = play("served", tmp_path)
    monkeypatch.chdir(tmp_path)
    name = json.loads((run / "manifest.json").read_bytes())["run"]
    for site in ("site-1", "site-3"):
        args = [f"site=demo/{site}/site.yaml", f"to={site}.zip"]
        assert cli.main(["site", "hand-in", name[:-9], *args]) == 0  # as approve takes it
    # The second of three has refused the run: its ledger has nothing of it.
    assert cli.main(["site", "hand-in", name, "site=demo/site-2/site.yaml", "to=x.zip"]) == 2
    given = "with=[site-1.zip,site-3.zip]"
    assert cli.main(["bundle", f"run={run}", "home=demo/coordinator", given, "to=run.zip"]) == 0
    bundle = BundleEvidence(tmp_path / "run.zip")
    assert bundle.signed.claim.lacking == ()
    found: dict[str, set[Verdict]] = {}
    for checks in verify(read_records(bundle)).checks.values():
        for each in checks:
            found.setdefault(each.name, set()).add(each.verdict)
    for check in ("bundle-signed", "bundle-packer", "bundle-handed-in", "own-head", "rounds-paid"):
        assert found[check] == {Verdict.PASS}, check
    assert not [check for check, verdicts in found.items() if Verdict.FAIL in verdicts]
