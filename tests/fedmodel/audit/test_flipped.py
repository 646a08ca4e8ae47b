"""Any byte of a ledger, of heads or of the model: changed, something fails, or nothing is told."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from fedmodel.errors import EvidenceError
from tests.examples import examples
from tests.fedmodel.audit.forged import GOLDEN

PARTS = (
    "ledger/*",
    "heads.json",
    "sites/*/heads/*",
    "sites/*/runs/*/*",
    "coordinator*",
    "model/*",
    "checkpoints/*/model*",
)
COVERED = {
    kind: sorted(
        str(path.relative_to(GOLDEN / kind))
        for part in PARTS
        for path in (GOLDEN / kind).glob(part)
    )
    for kind in ("record", "distributed", "shared", "on")
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("flipped")
    return {kind: Path(shutil.copytree(GOLDEN / kind, root / kind)) for kind in COVERED}


def noticed(folder: Path) -> bool:
    try:
        findings = verify(read_records(FolderEvidence(folder)))
    except EvidenceError:
        return True
    return findings.count(Verdict.FAIL) > 0


@pytest.mark.long
@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_a_changed_byte_is_noticed(copies: dict[str, Path], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(COVERED)))
    path = copies[kind] / data.draw(st.sampled_from(COVERED[kind]))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda other: other != whole[at]))
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    try:
        assert noticed(copies[kind])
    finally:
        path.write_bytes(whole)
