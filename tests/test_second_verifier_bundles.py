"""The second verifier reads bundles, and agrees with ours on them."""

import random
from pathlib import Path
from typing import Any

import pytest

from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from fedmodel.errors import FedmodelError
from fedmodel.identity.keyfile import secret_text, write_secret
from tests.fedmodel.audit.bundles.conftest import Packed, claim_of, packed
from tests.fedmodel.audit.bundles.test_merging import Sites, sites
from tests.fedmodel.audit.conftest import forge
from tests.fedmodel.audit.forged import GOLDEN, key_of
from tests.fedmodel.audit.forged_coordinator import seed_of
from tests.second_verifier import verify_bundle

__all__ = ["claim_of", "forge", "packed", "sites"]


def ours(path: Path, packer: str | None = None) -> bool:
    """Return whether nothing fails by our verifier."""
    try:
        return not verify(read_records(BundleEvidence(path, packer))).count(Verdict.FAIL)
    except FedmodelError:
        return False


def agree(path: Path, into: Path, packer: str | None = None) -> bool:
    """Return what both verifiers say."""
    passed = ours(path, packer)
    assert (verify_bundle(path, into, packer) == []) == passed
    return passed


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["none", "record", "on", "served", "handed-in"])
def test_a_golden_runs_bundle(kind: str, packed: Packed, tmp_path: Path) -> None:
    path, key = packed(kind), key_of("auditor").fingerprint
    assert agree(path, tmp_path / "a")
    assert agree(path, tmp_path / "b", key)
    assert not agree(path, tmp_path / "c", key_of("x").fingerprint)


@pytest.mark.parametrize(
    "changed",
    [{"job_sha256": "0" * 64}, {"changed": {"metrics.jsonl": b""}}, {"run": GOLDEN / "served"}],
)
def test_what_its_packer_has_made_up(
    changed: dict[str, Any], packed: Packed, tmp_path: Path
) -> None:
    passed = agree(packed("none", **changed), tmp_path / "a")
    assert passed == ("run" in changed)


@pytest.mark.slow
def test_what_sites_handed_in(sites: Sites, tmp_path: Path) -> None:
    for site in sites.forged.sites:
        assert sites.hand_in(site) == 0
    (sites.root / "site-1" / "key").unlink()
    assert sites.bundle(*(f"{site}.zip" for site in sites.forged.sites)) == 0
    assert agree(tmp_path / "run.zip", tmp_path / "a")
    assert sites.bundle("site-1.zip", to="one.zip") == 0
    # Of a simulated run all ledgers are at hand: one that is missing isn't with its site.
    assert not agree(tmp_path / "one.zip", tmp_path / "b")
    write_secret(sites.root / "site-1" / "key", secret_text(seed_of("x"), "key"))
    assert sites.hand_in("site-1", "again.zip") == 0
    others = [f"{site}.zip" for site in sites.forged.sites[1:]]
    assert sites.bundle("again.zip", *others, to="forged.zip") == 0
    assert not agree(tmp_path / "forged.zip", tmp_path / "c")


@pytest.mark.sample(4)
@pytest.mark.parametrize("seed", range(40))
def test_a_changed_byte(seed: int, packed: Packed, tmp_path: Path) -> None:
    path, draw = packed("none"), random.Random(seed)
    whole = bytearray(path.read_bytes())
    whole[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
    path.write_bytes(whole)
    assert not agree(path, tmp_path / "a")
