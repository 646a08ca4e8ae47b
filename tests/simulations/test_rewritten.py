"""A coordinator that rewrites its ledger is found out by the first site that it asks."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.ledger import Ledger
from fedmodel.ledger.coordinator_entries import ResultEntry, RunEntry
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger
from fedmodel.runs import RunFolder
from server.ledger_memory import LedgerMemory
from server.own_ledger import OwnLedger
from tests.fedmodel.audit import played


def rewritten(folder: RunFolder) -> None:
    """Write the coordinator's ledger anew, with its own key, and another mean in its result."""
    entries = CoordinatorLedger(folder.own_ledger).entries()
    real = OwnLedger.of

    def of(run: RunFolder, keys: CoordinatorKeys, memory: LedgerMemory) -> OwnLedger:
        run.own_ledger.unlink()
        run.own_head.unlink()
        made = real(run, keys, memory)
        for entry in entries:
            if isinstance(entry, RunEntry):
                continue
            if isinstance(entry, ResultEntry):
                entry = replace(entry, mean="f" * 64)
            made._note(entry)
        return made

    patch = pytest.MonkeyPatch()
    patch.setattr(OwnLedger, "of", of)
    try:
        return_code = cli.main([*ARGS, "resume=true"])
    finally:
        patch.undo()
    assert return_code != 0


ARGS = ["simulate", *played.SMALL, *played.KINDS["resumed"], "run=lies"]


@pytest.mark.long
def test_a_run_whose_coordinators_ledger_was_rewritten_goes_no_further(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with played._inside(tmp_path):
        played._interrupted(ARGS, *played._DIES["resumed"])
        folder = RunFolder(tmp_path / "runs" / "lies")
        (ledger, *_) = sorted((folder.path / "ledger").glob("*.jsonl"))
        before = Ledger(ledger).spends()
        rewritten(folder)
    said = capsys.readouterr()
    assert "has rewritten its ledger" in " ".join((said.out + said.err).split())
    assert Ledger(ledger).spends() == before
