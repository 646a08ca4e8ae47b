"""Every byte of a bundle counts: what is changed anywhere is an error, or a check that fails."""

import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmodel.audit.bundles.container import Filed, archive, member
from fedmodel.audit.bundles.evidence import STATEMENT, BundleEvidence
from fedmodel.audit.bundles.packing import in_memory, pack
from fedmodel.audit.bundles.statement import Claim, Packer
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from fedmodel.errors import EvidenceError, FedmodelError
from tests.fedmodel.audit.bundles.conftest import Packed
from tests.fedmodel.audit.forged import key_of

GOLDEN = Path(__file__).parents[3] / "vectors" / "bundle_v1.zip"
LINES = b'{"a": 1}\n'
SMALL = {"manifest.json": b"{}", "ledger/nord.jsonl": LINES}


def small(to: Path) -> Path:
    packer = Packer(key=key_of("auditor").public.hex(), role="other", name="An Auditor")
    claim = Claim(run="run", job_sha256="0" * 64, packer=packer)
    pack(to, claim, in_memory(SMALL), key_of("auditor"))
    return to


def refused(path: Path) -> bool:
    """Return whether a bundle is an error, or fails in what is checked of it."""
    try:
        bundle = BundleEvidence(path)
        bundle.signed.check()
    except FedmodelError:
        return True
    return bool(bundle.changed)


def test_a_small_bundle_is_read_as_it_was_packed(tmp_path: Path) -> None:
    found = BundleEvidence(small(tmp_path / "small.zip"))
    assert found.names("ledger") == ["ledger/nord.jsonl"]
    assert found.read("ledger", "ledger/nord.jsonl") == LINES
    assert not refused(tmp_path / "small.zip")


def test_its_bytes_are_those_of_the_first_version(tmp_path: Path) -> None:
    """What a later version rebuilds is the same: another form is another schema."""
    assert small(tmp_path / "small.zip").read_bytes() == GOLDEN.read_bytes()
    assert BundleEvidence(GOLDEN).names("manifest") == ["manifest.json"]


def test_each_byte_of_a_small_bundle_flipped_is_refused(tmp_path: Path) -> None:
    path = small(tmp_path / "small.zip")
    whole, other = path.read_bytes(), tmp_path / "other.zip"
    taken = []
    for at in range(len(whole)):
        for bit in (0, 5, 7) if at % 5 else range(8):
            other.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            if not refused(other):
                taken.append((at, bit))
    assert taken == []


@given(st.data())
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_edit_of_its_bytes_is_taken(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "small.zip"
    if not path.exists():
        small(path)
    whole = path.read_bytes()
    places = st.integers(0, len(whole))
    one, two = sorted(data.draw(st.tuples(places, places)))
    way = data.draw(st.sampled_from(["cut", "doubled", "inserted", "end"]))
    edited = {
        "cut": whole[:one] + whole[two:],
        "doubled": whole[:two] + whole[one:],
        "inserted": whole[:one] + data.draw(st.binary(min_size=1, max_size=40)) + whole[one:],
        "end": whole[:one],
    }[way]
    other = tmp_path / "other.zip"
    other.write_bytes(edited)
    assert edited == whole or refused(other)


@pytest.mark.slow
def test_bytes_of_a_whole_run_flipped_never_pass(packed: Packed, tmp_path: Path) -> None:
    whole, other = packed().read_bytes(), tmp_path / "other.zip"
    for at in range(11, len(whole), 997):
        other.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            findings = verify(read_records(BundleEvidence(other)))
        except FedmodelError:
            continue
        assert findings.count(Verdict.FAIL), at


def zipped(tmp_path: Path, way: int) -> Path:
    """Return the same parts, packed by another program."""
    path = tmp_path / "zipped.zip"
    with (
        zipfile.ZipFile(path, "w", compression=way) as file,
        zipfile.ZipFile(small(tmp_path / "small.zip")) as own,
    ):
        for name in own.namelist():
            file.writestr(name, own.read(name))
    return path


def test_other_programs_read_a_bundle(tmp_path: Path) -> None:
    with zipfile.ZipFile(small(tmp_path / "small.zip")) as file:
        assert file.testzip() is None
        assert file.namelist() == [STATEMENT, "ledger/nord.jsonl", "manifest.json"]
        assert file.read("ledger/nord.jsonl") == LINES


def test_what_another_program_packed_isnt_taken(tmp_path: Path) -> None:
    for way in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with pytest.raises(EvidenceError, match="isn't stored as a bundle's parts are"):
            BundleEvidence(zipped(tmp_path, way))
        (tmp_path / "small.zip").unlink()


def test_a_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as file:
        file.writestr(STATEMENT, bytes(100 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(EvidenceError, match="isn't stored as a bundle's parts are"):
        BundleEvidence(path)


def test_many_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = small(tmp_path / "small.zip")
    whole = bytearray(path.read_bytes())
    at = whole.rindex(b"manifest.json")
    whole[at - 4 : at] = bytes(4)  # its header stands at 0, where the statement's is
    path.write_bytes(whole)
    with pytest.raises(EvidenceError, match="isn't stored as a bundle's parts are"):
        BundleEvidence(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "it has 0 bytes"),
        (b"no zip " * 20, "it doesn't end as one"),
        (b"PK\5\6" + bytes(19), "it doesn't end as one"),
    ],
)
def test_what_is_no_zip(text: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    path.write_bytes(text)
    with pytest.raises(EvidenceError, match=why):
        BundleEvidence(path)


def test_a_folder_and_nothing(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="isn't a plain file"):
        BundleEvidence(tmp_path)
    with pytest.raises(EvidenceError, match="can't be read: No such file"):
        BundleEvidence(tmp_path / "none.zip")


@pytest.mark.parametrize(
    "name",
    [
        *("../manifest.json", "/manifest.json", "ledger/../x.jsonl", "ledger/./x.jsonl"),
        *("ledger//x.jsonl", "ledger\\x.jsonl", "C:/x", "ledger/a\0b.jsonl", "ledger/ a.jsonl"),
        *("ledger/e\u0301.jsonl", "ledger/a\u202eb.jsonl", "ledger/" + "a" * 600 + ".jsonl"),
        *("key", "coordinator/key", "sites/nord/salt", "handed-in/x/y.dsse.json.zip"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    members = [member(STATEMENT, lambda: [b"{}"]), member(name, lambda: [b"x"])]
    with pytest.raises(EvidenceError, match=r"can't be the name of|is no part of"):
        _read(path, members)


def _read(path: Path, members: list[Filed]) -> BundleEvidence:
    path.write_bytes(b"".join(archive(members)))
    return BundleEvidence(path)


def test_twins_and_another_order_are_refused() -> None:
    def parts(*names: str) -> bytes:
        return b"".join(archive([member(name, lambda: [b"x"]) for name in names]))

    assert parts(STATEMENT, "ledger/a.jsonl", "ledger/b.jsonl")
    with pytest.raises(EvidenceError, match="are one name on some disks"):
        parts(STATEMENT, "ledger/A.jsonl", "ledger/a.jsonl")
    with pytest.raises(EvidenceError, match="are one name on some disks"):
        parts(STATEMENT, "ledger/a.jsonl", "ledger/a.jsonl")
    with pytest.raises(EvidenceError, match="aren't in their order"):
        parts(STATEMENT, "ledger/b.jsonl", "ledger/a.jsonl")
