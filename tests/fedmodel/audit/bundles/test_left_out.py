"""What a bundle may be packed without: the model, and nothing that a check needs to refute it."""

import hashlib
from pathlib import Path

import pytest

from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.bundles.packing import in_memory, pack, parts_of
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.errors import EvidenceError
from tests.fedmodel.audit.bundles.conftest import claim_of
from tests.fedmodel.audit.forged import GOLDEN, key_of

RUN = GOLDEN / "record"


@pytest.mark.parametrize("name", ["ledger/site-1.jsonl", "metrics.jsonl", "coordinator.jsonl"])
def test_nothing_but_the_model_can_be_left_out(name: str, tmp_path: Path) -> None:
    parts = {
        n: b"".join(chunks()) for n, chunks in parts_of(FolderEvidence(RUN), model=True).items()
    }
    digest = hashlib.sha256(parts.pop(name)).hexdigest()
    to, claim = tmp_path / "run.zip", claim_of(RUN, left_out=(name,))
    pack(to, claim, in_memory(parts), key_of("auditor"), {name: digest})
    with pytest.raises(EvidenceError, match="only a model's files may be left out"):
        BundleEvidence(to)
