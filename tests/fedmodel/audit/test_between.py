"""Runs of between: coordinators kept a ledger, and sites didn't say yet what came of steps."""

from pathlib import Path

import pytest

from fedmodel.audit.verdicts import Verdict
from tests.fedmodel.audit.conftest import findings_of
from tests.fedmodel.audit.forged import VECTORS

BETWEEN = VECTORS / "verify_between"


@pytest.mark.parametrize("path", sorted(BETWEEN.iterdir()), ids=lambda path: path.name)
def test_a_run_of_between_passes_what_its_records_can_tell(path: Path) -> None:
    lines = [line for each in path.rglob("*.jsonl") for line in each.read_bytes().splitlines()]
    assert any(b"fedmodel.coordinator/1" in line for line in lines)
    assert any(b"fedmodel.ledger/3" in line for line in lines)
    found = findings_of(path)
    assert found.count(Verdict.FAIL) == 0
    assert found.count(Verdict.PASS) > 40
