"""An exported folder: what of it is held against its run, and what of a change is seen."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.exports import ExportedFolder
from fedmodel.audit.parameters import MODEL, file_digest
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from fedmodel.errors import EvidenceError
from fedmodel.runs.origin import ORIGIN, Origin, write_origin
from tests.fedmodel.audit.forged import GOLDEN

OLD = GOLDEN.with_name("verify_v1")
CHECKS = ("export-files", "export-named")
CHANGED = ["FAIL", "NOT TESTED"]  # what a changed folder is of is no matter


def exported(run: Path, folder: Path) -> Path:
    """Make a folder as an export of a run's last parameters makes it."""
    records = read_records(FolderEvidence(run))
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    origin = Origin(
        run=records.run,
        job_sha256=records.manifest.job_sha256,
        parameters=file_digest(records.evidence, MODEL),
        form="merged",
    )
    write_origin(folder, origin)
    return folder


def found(run: Path, folder: Path) -> list[str]:
    records = read_records(FolderEvidence(run))
    records = replace(records, exported=ExportedFolder.open(folder))
    checks = {each.name: each for each in verify(records).checks["model"]}
    return [str(checks[name].verdict) for name in CHECKS]


@pytest.mark.parametrize("run", [GOLDEN / "record", OLD / "record"], ids=["ledger", "none"])
def test_what_was_exported_passes(run: Path, tmp_path: Path) -> None:
    assert found(run, exported(run, tmp_path / "model")) == ["PASS", "PASS"]


def test_one_bit_of_a_file_a_file_less_and_a_file_more_fail(tmp_path: Path) -> None:
    run, folder = GOLDEN / "record", exported(GOLDEN / "record", tmp_path / "model")
    weights = folder / "model.safetensors"
    text = weights.read_bytes()
    weights.write_bytes(text[:-1] + bytes([text[-1] ^ 1]))
    assert found(run, folder) == CHANGED
    weights.write_bytes(text)
    (folder / "modeling_evil.py").write_text("import os")
    assert found(run, folder) == CHANGED
    (folder / "modeling_evil.py").unlink()
    (folder / "1_Pooling" / "config.json").unlink()
    assert found(run, folder) == CHANGED
    os.symlink(weights, folder / "1_Pooling" / "config.json")
    assert found(run, folder) == CHANGED


def test_one_of_another_run_or_of_other_parameters_fails(tmp_path: Path) -> None:
    folder = exported(GOLDEN / "patient", tmp_path / "model")
    assert found(GOLDEN / "record", folder) == ["PASS", "FAIL"]
    told = json.loads((folder / ORIGIN).read_bytes())
    told["parameters"] = "0" * 64
    (folder / ORIGIN).write_text(json.dumps(told))
    assert found(GOLDEN / "patient", folder) == ["PASS", "FAIL"]


@pytest.mark.parametrize(
    "text",
    [None, b"", b"{", b"[1]", b'{"schema": "fedmodel.export/2"}', b"\xff\xfe", b"[" * 100_000],
)
def test_what_is_no_origin_is_one_clear_error(text: bytes | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / ORIGIN).write_bytes(text)
    with pytest.raises(EvidenceError, match=ORIGIN):
        ExportedFolder.open(tmp_path)


def test_the_verb_takes_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = exported(GOLDEN / "record", tmp_path / "my model")
    args = ["verify", f"run={GOLDEN / 'record'}", f"export={folder}", "--json"]
    assert cli.main(args) == 0
    told = json.loads(capsys.readouterr().out)
    verdicts = {each["check"]: each["verdict"] for each in told["checks"]}
    assert [verdicts[name] for name in CHECKS] == ["PASS", "PASS"]


def test_without_one_it_says_how_to_give_it() -> None:
    checks = verify(read_records(FolderEvidence(GOLDEN / "record"))).checks["model"]
    told = {each.name: each for each in checks}
    assert all(told[name].verdict == Verdict.NOT_TESTED for name in CHECKS)
    assert "export=FOLDER" in told["export-files"].reason


def test_what_this_version_writes_later_ones_read() -> None:
    text = (Path(__file__).parents[2] / "vectors" / "export_v1.json").read_bytes()
    origin = Origin.from_mapping(json.loads(text))
    assert origin.form == "merged"
    assert origin.files.keys() == {"README.md", "config.json", "model.safetensors"}
