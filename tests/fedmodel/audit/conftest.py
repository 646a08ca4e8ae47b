"""What tests of verification share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Check, Verdict
from fedmodel.audit.verify import Findings, verify
from tests.fedmodel.audit.forged import GOLDEN, Forged

Forge = Callable[..., Forged]


def findings_of(path: Path, roster: bytes | None = None) -> Findings:
    """Verify a run folder."""
    return verify(read_records(FolderEvidence(path), roster))


def found(path: Path, verdict: Verdict) -> dict[str, list[Check]]:
    """Verify a run folder, and return check → where it has found that."""
    named: dict[str, list[Check]] = {}
    for checks in findings_of(path).checks.values():
        for each in checks:
            if each.verdict == verdict:
                named.setdefault(each.name, []).append(each)
    return named


def failures(path: Path) -> dict[str, list[Check]]:
    """Verify a run folder, and return what failed."""
    return found(path, Verdict.FAIL)


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    """Make run folders whose keys the test has."""

    def make(kind: str = "record", name: str = "run", golden: Path = GOLDEN) -> Forged:
        return Forged(kind, tmp_path / "runs" / name, golden)

    return make
