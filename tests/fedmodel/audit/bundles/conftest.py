"""What tests of bundles share."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fedmodel.audit.bundles.packing import in_memory, pack, parts_of
from fedmodel.audit.bundles.statement import Claim, Packer
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from tests.fedmodel.audit.forged import GOLDEN, key_of

Packed = Callable[..., Path]


def claim_of(run: Path, **more: object) -> Claim:
    """Return what an auditor's bundle of a run says of itself."""
    records = read_records(FolderEvidence(run))
    packer = Packer(key=key_of("auditor").public.hex(), role="other", name="An Auditor")
    told = {"run": records.run, "job_sha256": records.manifest.job_sha256, "packer": packer}
    told["lacking"] = records.absent(site.name for site, _ in records.with_ledgers())
    return Claim(**{**told, **more})  # type: ignore[arg-type]


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    """Pack a golden run's records, with changes that its packer signs."""

    def make(
        kind: str = "record",
        name: str = "run.zip",
        changed: Mapping[str, bytes | None] | None = None,
        run: Path | None = None,
        **more: object,
    ) -> Path:
        path = run or GOLDEN / kind
        parts = {
            part: b"".join(chunks())
            for part, chunks in parts_of(FolderEvidence(path), model=True).items()
        }
        for part, text in (changed or {}).items():
            if text is None:
                del parts[part]
            else:
                parts[part] = text
        to = tmp_path / name
        pack(to, claim_of(path, **more), in_memory(parts), key_of("auditor"))
        return to

    return make


def sha256(path: Path) -> str:
    """Return a file's SHA-256, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
