"""Evidence is read by name, up to a size, and from nowhere but its folder."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from fedmodel.audit import evidence
from fedmodel.audit.evidence import KINDS, FolderEvidence, Kind, Part
from fedmodel.errors import EvidenceError
from tests.fedmodel.audit.forged import GOLDEN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    (made / "ledger").mkdir(parents=True)
    (made / "manifest.json").write_text("{}")
    (made / "ledger" / "north.jsonl").write_text("one\n")
    return made


def test_every_file_of_a_golden_run_is_of_one_kind() -> None:
    found = FolderEvidence(GOLDEN / "record")
    names = [name for kind in KINDS for name in found.names(kind)]
    there = [p.relative_to(GOLDEN / "record") for p in (GOLDEN / "record").rglob("*.*")]
    assert sorted(names) == sorted(str(path) for path in there)
    for kind in KINDS:
        for name in found.names(kind):
            whole = (GOLDEN / "record" / name).read_bytes()
            assert found.read(kind, name) == whole
            assert found.sha256(kind, name) == hashlib.sha256(whole).hexdigest()


def test_what_isnt_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="there is no folder"):
        FolderEvidence(tmp_path / "nothing")
    with pytest.raises(EvidenceError, match="Not a directory"):
        FolderEvidence(folder / "manifest.json")
    with pytest.raises(EvidenceError, match=r"summary\.json can't be read: No such file"):
        FolderEvidence(folder).read("summary", "summary.json")


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "ledger/../secret.jsonl", "ledger/..jsonl/x", "ledger/a/b.jsonl"],
)
def test_a_name_leads_nowhere_else(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("secret")
    with pytest.raises(EvidenceError, match="is no part of a run's evidence"):
        FolderEvidence(folder).read("ledger", name)


def test_no_link_is_followed(folder: Path) -> None:
    (folder.parent / "secret.jsonl").write_text("secret")
    (folder / "ledger" / "south.jsonl").symlink_to(folder.parent / "secret.jsonl")
    with pytest.raises(EvidenceError, match=r"south\.jsonl can't be read: it is a link"):
        FolderEvidence(folder).read("ledger", "ledger/south.jsonl")
    (folder / "ledger").rename(folder.parent / "elsewhere")
    (folder / "ledger").symlink_to(folder.parent / "elsewhere")
    assert FolderEvidence(folder).names("ledger") == []
    with pytest.raises(EvidenceError, match="can't be read"):
        FolderEvidence(folder).read("ledger", "ledger/north.jsonl")


def test_a_pipe_is_no_part(folder: Path) -> None:
    os.mkfifo(folder / "summary.json")
    with pytest.raises(EvidenceError, match="it isn't a plain file"):
        FolderEvidence(folder).read("summary", "summary.json")


def test_what_is_too_large_isnt_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Part(re.compile(r"ledger/(?P<site>[^/]+)\.jsonl"), 4)
    monkeypatch.setitem(evidence.KINDS, "ledger", small)
    assert FolderEvidence(folder).read("ledger", "ledger/north.jsonl") == b"one\n"
    (folder / "ledger" / "north.jsonl").write_text("five\n")
    found = FolderEvidence(folder)
    monkeypatch.delattr(os, "read")
    for take in (found.read, found.sha256):
        kind: Kind = "ledger"
        with pytest.raises(EvidenceError, match="is larger than 4 bytes, and no ledger is"):
            take(kind, "ledger/north.jsonl")


def test_a_folder_of_far_too_many_files_is_no_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_MOST_NAMES", 1)
    with pytest.raises(EvidenceError, match="has more than 1 files; that is no run"):
        FolderEvidence(folder)
