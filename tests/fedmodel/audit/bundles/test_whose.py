"""Whose a bundle and its parts are: each name, role, key and run that a statement gives is held."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from fedmodel.audit.bundles import container
from fedmodel.audit.bundles.evidence import STATEMENT, BundleEvidence, handed_name
from fedmodel.audit.bundles.packing import in_memory, pack, parts_of
from fedmodel.audit.bundles.statement import Packer, Signed
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Check, Verdict
from fedmodel.audit.verify import verify
from fedmodel.errors import EvidenceError
from fedmodel.identity.keys import SigningKey
from tests import second_verifier
from tests.fedmodel.audit.bundles.conftest import Packed, claim_of, sha256
from tests.fedmodel.audit.conftest import Forge
from tests.fedmodel.audit.forged import Forged, key_of

LEDGER = "ledger/site-1.jsonl"


def check_of(path: Path, name: str, party: str = "run") -> Check:
    """Return what one check of a bundle has found."""
    found = verify(read_records(BundleEvidence(path))).checks["bundle"]
    (check,) = (each for each in found if (each.name, each.party) == (name, party))
    return check


def bundle_of(forged: Forged, signer: SigningKey, added: dict[str, bytes], **claim: Any) -> Path:
    parts = {**parts_of(FolderEvidence(forged.path), model=False), **in_memory(added)}
    to = forged.path.with_suffix(".zip")
    pack(to, claim_of(forged.path, **claim), parts, signer)
    return to


def rebuilt(path: Path, statement: bytes) -> Path:
    """Write a bundle's parts again under another statement."""
    bundle = BundleEvidence(path)
    archive = bundle._archive
    kept = [n for n in archive.names if n != STATEMENT]
    members = [container.member(n, functools.partial(archive.chunks, n)) for n in kept]
    to = path.with_name("rebuilt.zip")
    head = container.member(STATEMENT, lambda: [statement])
    to.write_bytes(b"".join(container.archive([head, *members])))
    return to


@pytest.mark.parametrize(
    ("role", "name", "key"),
    [
        ("site", "site-1", "coordinator"),
        ("site", "site-1", "site-2"),
        ("coordinator", "coordinator", "site-1"),
    ],
)
def test_a_key_packs_in_its_own_role_and_name_alone(
    forge: Forge, role: Literal["coordinator", "site"], name: str, key: str
) -> None:
    packer = Packer(key=key_of(key).public.hex(), role=role, name=name)
    path = bundle_of(forge(), key_of(key), {}, packer=packer)
    assert check_of(path, "bundle-signed").verdict == Verdict.PASS
    assert check_of(path, "bundle-packer").verdict == Verdict.FAIL


def test_the_envelope_names_the_key_that_signs_it(packed: Packed) -> None:
    path = packed()
    envelope = replace(BundleEvidence(path).signed.envelope, keyid=key_of("x").fingerprint)
    found = check_of(rebuilt(path, envelope.to_json()), "bundle-signed")
    assert found.verdict == Verdict.FAIL
    assert "another key's fingerprint" in found.reason


def test_what_was_left_out_is_among_what_was_signed_for(packed: Packed) -> None:
    with pytest.raises(EvidenceError, match=r"packed without 'model/trained.safetensors', which"):
        BundleEvidence(packed(left_out=("model/trained.safetensors",)))
    with pytest.raises(EvidenceError, match=r"packed without 'model/trained.safetensors', which"):
        BundleEvidence(
            packed(
                name="b.zip",
                changed={"model/trained.safetensors": None},
                left_out=("model/trained.safetensors",),
            )
        )


def test_who_is_said_to_have_handed_in_has(packed: Packed) -> None:
    with pytest.raises(EvidenceError, match="names other parties that have handed something in"):
        BundleEvidence(packed(handed_in=("site-1",)))


# -- a site's own statement ----------------------------------------------------------------------


def handed(
    forged: Forged,
    signer: str = "site-1",
    name: str = "site-1",
    parts: Sequence[str | Path] = (),
    **claim: Any,
) -> Path:
    """Pack a run with a statement of a site in it, whatever that says."""
    key = key_of(signer)
    packer = Packer(key=key.public.hex(), role="site", name=name)
    said = replace(claim_of(forged.path, packer=packer), **claim)
    own = [path.relative_to(forged.path) for path in forged.path.glob("sites/site-1/**/*.json")]
    listed = {str(part): sha256(forged.path / part) for part in parts or (Path(LEDGER), *own)}
    statement = Signed.make(said, listed, key).envelope.to_json()
    added = {handed_name("site-1"): statement}
    return bundle_of(forged, key_of("auditor"), added, handed_in=("site-1",))


def under_another_key(forged: Forged) -> None:
    forged.write("site-1", forged.entries(), key=key_of("x"))


def as_it_was(_: Forged) -> None:
    pass


@pytest.mark.parametrize(
    ("how", "said", "why"),
    [
        (as_it_was, {"parts": ["sites/site-1/heads/main.json"]}, "hasn't handed that in"),
        (as_it_was, {"job_sha256": "0" * 64}, "of another run or job"),
        (as_it_was, {"run": "another"}, "of another run or job"),
        (as_it_was, {"name": "site-2"}, "the statement under its name is that of"),
        (under_another_key, {}, "by another key than its ledger is under"),
        (under_another_key, {"signer": "x"}, "by another key than the roster has for it"),
    ],
)
def test_a_statement_is_the_sites_own_of_this_run(
    forge: Forge, how: Callable[[Forged], None], said: dict[str, Any], why: str
) -> None:
    forged = forge()
    how(forged)
    found = check_of(handed(forged, **said), "bundle-handed-in", "site site-1")
    assert (found.verdict, why in found.reason) == (Verdict.FAIL, True), found


def test_a_statement_that_is_passes(forge: Forge) -> None:
    found = check_of(handed(forge()), "bundle-handed-in", "site site-1")
    assert found.verdict == Verdict.PASS, found


# -- what isn't in it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changed", "lacking", "why"),
    [
        ("record", {LEDGER: None}, (), "it lacks no ledger, and it lacks the ledgers of site-1"),
        ("record", {}, ("site-1",), "lacks the ledgers of site-1, and it lacks no ledger"),
        ("none", {}, ("site-1",), "lacks the ledgers of site-1, and it lacks no ledger"),
        ("served", {}, (), "it lacks no ledger, and it lacks the ledgers of site-1, site-3"),
        ("served", {}, ("site-1", "site-2", "site-3"), "of site-1, site-2, site-3, and it lacks"),
        ("interrupted", {LEDGER: None}, (), "and it lacks the ledgers of site-1"),
    ],
)
def test_its_packer_names_the_ledgers_that_it_lacks(
    packed: Packed,
    kind: str,
    changed: dict[str, bytes | None],
    lacking: tuple[str, ...],
    why: str,
    tmp_path: Path,
) -> None:
    path = packed(kind, changed=changed, lacking=lacking)
    found = check_of(path, "bundle-lacking")
    assert (found.verdict, why in found.reason) == (Verdict.FAIL, True), found
    assert {each.family for each in second_verifier.verify_bundle(path, tmp_path / "out")} >= {
        "bundle"
    }


def test_the_ledgers_that_it_lacks_are_named(packed: Packed) -> None:
    path = packed("record", changed={LEDGER: None}, lacking=("site-1",))
    found = check_of(path, "bundle-lacking")
    assert (found.verdict, found.reason) == (Verdict.PASS, "1 lacking, and named")


def test_a_tree_head_that_the_site_hasnt_handed_in(forge: Forge) -> None:
    """Its statement is of the ledger alone, and two of its tree heads are here all the same."""
    found = check_of(handed(forge(), parts=(LEDGER,)), "bundle-handed-in", "site site-1")
    assert (found.verdict, found.reason) == (Verdict.FAIL, "the site hasn't handed that in")
    assert (found.entry or "").startswith("sites/site-1/")
